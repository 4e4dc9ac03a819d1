local balancer = require "ngx.balancer"
local pools = {
  ["pool-00"] = {stable = 41613, canary = 42005},
  ["pool-01"] = {stable = 33847, canary = 39733},
  ["pool-02"] = {stable = 38989, canary = 40179},
  ["pool-03"] = {stable = 43855, canary = 35107},
  ["pool-04"] = {stable = 34477, canary = 33597},
  ["pool-05"] = {stable = 44545, canary = 41477},
  ["pool-06"] = {stable = 36345, canary = 34337},
  ["pool-07"] = {stable = 33241, canary = 40239},
  ["pool-08"] = {stable = 39175, canary = 39241},
  ["pool-09"] = {stable = 34939, canary = 41345},
  ["pool-10"] = {stable = 33269, canary = 33231},
  ["pool-11"] = {stable = 36299, canary = 38323},
  ["pool-12"] = {stable = 38911, canary = 40175},
  ["pool-13"] = {stable = 42827, canary = 39165},
  ["pool-14"] = {stable = 38605, canary = 37965},
  ["pool-15"] = {stable = 38755, canary = 38007},
  ["pool-16"] = {stable = 38793, canary = 33211},
  ["pool-17"] = {stable = 42775, canary = 36559},
  ["pool-18"] = {stable = 40185, canary = 35627},
  ["pool-19"] = {stable = 40855, canary = 38737},
  ["pool-20"] = {stable = 39735, canary = 35209},
  ["pool-21"] = {stable = 43557, canary = 39653},
  ["pool-22"] = {stable = 38677, canary = 37085},
  ["pool-23"] = {stable = 40441, canary = 44165},
  ["pool-24"] = {stable = 38547, canary = 38145},
  ["pool-25"] = {stable = 43231, canary = 42145},
  ["pool-26"] = {stable = 34493, canary = 42921},
  ["pool-27"] = {stable = 33495, canary = 40187},
  ["pool-28"] = {stable = 37773, canary = 35039},
  ["pool-29"] = {stable = 40485, canary = 37957},
  ["pool-30"] = {stable = 46263, canary = 39709},
  ["pool-31"] = {stable = 45729, canary = 37611},
  ["pool-32"] = {stable = 36473, canary = 44811},
  ["pool-33"] = {stable = 37717, canary = 42551},
  ["pool-34"] = {stable = 35723, canary = 40701},
  ["pool-35"] = {stable = 40077, canary = 41831},
  ["pool-36"] = {stable = 37293, canary = 32813},
  ["pool-37"] = {stable = 38849, canary = 39055},
  ["pool-38"] = {stable = 35091, canary = 35995},
  ["pool-39"] = {stable = 35375, canary = 34329},
  ["pool-40"] = {stable = 35607, canary = 46153},
  ["pool-41"] = {stable = 45491, canary = 36371},
  ["pool-42"] = {stable = 35579, canary = 43507},
  ["pool-43"] = {stable = 36089, canary = 44979},
  ["pool-44"] = {stable = 45017, canary = 34173},
  ["pool-45"] = {stable = 33605, canary = 42153},
  ["pool-46"] = {stable = 39601, canary = 34197},
  ["pool-47"] = {stable = 34389, canary = 43985},
  ["pool-48"] = {stable = 32939, canary = 46849},
  ["pool-49"] = {stable = 33575, canary = 40977},
  ["pool-50"] = {stable = 34187, canary = 35729},
  ["pool-51"] = {stable = 46745, canary = 32799},
  ["pool-52"] = {stable = 37131, canary = 43431},
  ["pool-53"] = {stable = 38225, canary = 43531},
  ["pool-54"] = {stable = 34903, canary = 36255},
  ["pool-55"] = {stable = 37847, canary = 43523},
  ["pool-56"] = {stable = 44837, canary = 34831},
  ["pool-57"] = {stable = 35249, canary = 43325},
  ["pool-58"] = {stable = 33819, canary = 46567},
  ["pool-59"] = {stable = 35773, canary = 41491},
  ["pool-60"] = {stable = 40489, canary = 39841},
  ["pool-61"] = {stable = 36399, canary = 37971},
  ["pool-62"] = {stable = 38539, canary = 38005},
  ["pool-63"] = {stable = 33569, canary = 39427},
  ["pool-64"] = {stable = 45755, canary = 46569},
  ["pool-65"] = {stable = 44779, canary = 37515},
  ["pool-66"] = {stable = 34557, canary = 32947},
  ["pool-67"] = {stable = 45723, canary = 43549},
  ["pool-68"] = {stable = 38263, canary = 37783},
  ["pool-69"] = {stable = 39185, canary = 42955},
  ["pool-70"] = {stable = 33769, canary = 44683},
  ["pool-71"] = {stable = 33797, canary = 37825},
  ["pool-72"] = {stable = 35461, canary = 44643},
  ["pool-73"] = {stable = 40543, canary = 36123},
  ["pool-74"] = {stable = 42563, canary = 46537},
  ["pool-75"] = {stable = 38443, canary = 42259},
  ["pool-76"] = {stable = 41557, canary = 41369},
  ["pool-77"] = {stable = 36403, canary = 37423},
  ["pool-78"] = {stable = 33983, canary = 35195},
  ["pool-79"] = {stable = 33993, canary = 33703},
  ["pool-80"] = {stable = 37785, canary = 36863},
  ["pool-81"] = {stable = 45077, canary = 35261},
  ["pool-82"] = {stable = 33833, canary = 36715},
  ["pool-83"] = {stable = 41571, canary = 40199},
  ["pool-84"] = {stable = 38919, canary = 42087},
  ["pool-85"] = {stable = 39993, canary = 42261},
  ["pool-86"] = {stable = 42311, canary = 37083},
  ["pool-87"] = {stable = 37737, canary = 35397},
  ["pool-88"] = {stable = 39117, canary = 38437},
  ["pool-89"] = {stable = 41615, canary = 39329},
  ["pool-90"] = {stable = 42859, canary = 45485},
  ["pool-91"] = {stable = 39615, canary = 37011},
  ["pool-92"] = {stable = 45453, canary = 36827},
  ["pool-93"] = {stable = 37703, canary = 42139},
  ["pool-94"] = {stable = 36581, canary = 33071},
  ["pool-95"] = {stable = 46213, canary = 38841},
  ["pool-96"] = {stable = 46001, canary = 38163},
  ["pool-97"] = {stable = 35399, canary = 44499},
  ["pool-98"] = {stable = 32891, canary = 38427},
  ["pool-99"] = {stable = 43215, canary = 40131},
}
local consumers = {

}
local share, salt, sticky, live = 10, "20", false, false
local metrics, state = ngx.shared.metrics, ngx.shared.state
local crc32, floor = ngx.crc32_long, math.floor
local turns = {}
local gateway = {}

-- The canary's turns are spread evenly over a hundred.
local function in_turn(pool)
  if live then share = state:get("share") or share end
  local turn = (turns[pool] or 0) % 100 + 1
  turns[pool] = turn
  return floor(turn * share / 100) > floor((turn - 1) * share / 100)
end

function gateway.access()
  local ctx = ngx.ctx
  ctx.begin = ngx.now()
  if sticky then
    local consumer = consumers[ngx.var.http_apikey or ""]
    if not consumer then return ngx.exit(401) end
    ngx.req.set_header("X-Consumer-Username", consumer)
    ctx.canary = crc32(salt .. consumer) % 10000 < share * 100
  end
end

function gateway.balance()
  local ctx = ngx.ctx
  local name = ngx.var.pool
  local pool = pools[name]
  if not sticky then ctx.canary = in_turn(name) end
  local ok, problem = balancer.set_current_peer("127.0.0.1", ctx.canary and pool.canary or pool.stable)
  if not ok then error(problem) end
end

function gateway.log()
  local ctx = ngx.ctx
  local name = ngx.var.pool
  local seconds = ngx.now() - (ctx.begin or 0)
  local side = ctx.canary and "canary" or "stable"
  metrics:incr("requests:" .. name .. ":" .. ngx.status, 1, 0)
  metrics:incr("seconds:" .. name, seconds, 0)
  metrics:incr("bucket:" .. name .. ":" .. (seconds <= 0.005 and "0.005" or "inf"), 1, 0)
  metrics:incr("target:" .. name .. ":" .. side, 1, 0)
  metrics:incr("release:" .. name .. ":" .. side, 1, 0)
end

return gateway
