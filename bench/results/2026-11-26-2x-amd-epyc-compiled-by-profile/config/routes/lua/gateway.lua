local balancer = require "ngx.balancer"
local pools = {
  ["pool-00"] = {stable = 42439, canary = 42329},
  ["pool-01"] = {stable = 43259, canary = 33655},
  ["pool-02"] = {stable = 42039, canary = 44925},
  ["pool-03"] = {stable = 38567, canary = 43847},
  ["pool-04"] = {stable = 37253, canary = 39149},
  ["pool-05"] = {stable = 38055, canary = 41319},
  ["pool-06"] = {stable = 37425, canary = 41781},
  ["pool-07"] = {stable = 33083, canary = 45431},
  ["pool-08"] = {stable = 38483, canary = 40243},
  ["pool-09"] = {stable = 33623, canary = 33981},
  ["pool-10"] = {stable = 35287, canary = 44137},
  ["pool-11"] = {stable = 42309, canary = 34343},
  ["pool-12"] = {stable = 45585, canary = 41331},
  ["pool-13"] = {stable = 32991, canary = 46607},
  ["pool-14"] = {stable = 45827, canary = 38355},
  ["pool-15"] = {stable = 44109, canary = 35465},
  ["pool-16"] = {stable = 43177, canary = 35935},
  ["pool-17"] = {stable = 35109, canary = 42417},
  ["pool-18"] = {stable = 44825, canary = 36121},
  ["pool-19"] = {stable = 41537, canary = 46731},
  ["pool-20"] = {stable = 37435, canary = 36331},
  ["pool-21"] = {stable = 36041, canary = 42349},
  ["pool-22"] = {stable = 41621, canary = 41645},
  ["pool-23"] = {stable = 32847, canary = 45495},
  ["pool-24"] = {stable = 38141, canary = 41855},
  ["pool-25"] = {stable = 40513, canary = 46073},
  ["pool-26"] = {stable = 42001, canary = 33843},
  ["pool-27"] = {stable = 32955, canary = 40241},
  ["pool-28"] = {stable = 39277, canary = 41797},
  ["pool-29"] = {stable = 43697, canary = 45469},
  ["pool-30"] = {stable = 34625, canary = 44359},
  ["pool-31"] = {stable = 37383, canary = 40473},
  ["pool-32"] = {stable = 38755, canary = 33199},
  ["pool-33"] = {stable = 36743, canary = 41069},
  ["pool-34"] = {stable = 35085, canary = 40581},
  ["pool-35"] = {stable = 33987, canary = 43729},
  ["pool-36"] = {stable = 46591, canary = 45787},
  ["pool-37"] = {stable = 41655, canary = 46131},
  ["pool-38"] = {stable = 41697, canary = 40365},
  ["pool-39"] = {stable = 36723, canary = 43067},
  ["pool-40"] = {stable = 42561, canary = 42895},
  ["pool-41"] = {stable = 46415, canary = 40879},
  ["pool-42"] = {stable = 33611, canary = 38155},
  ["pool-43"] = {stable = 38095, canary = 37371},
  ["pool-44"] = {stable = 40891, canary = 34209},
  ["pool-45"] = {stable = 42009, canary = 40867},
  ["pool-46"] = {stable = 46327, canary = 45563},
  ["pool-47"] = {stable = 41209, canary = 43699},
  ["pool-48"] = {stable = 33785, canary = 38573},
  ["pool-49"] = {stable = 40685, canary = 44035},
  ["pool-50"] = {stable = 45457, canary = 43311},
  ["pool-51"] = {stable = 40311, canary = 33849},
  ["pool-52"] = {stable = 45473, canary = 43121},
  ["pool-53"] = {stable = 44435, canary = 35891},
  ["pool-54"] = {stable = 45629, canary = 42131},
  ["pool-55"] = {stable = 39643, canary = 43385},
  ["pool-56"] = {stable = 41963, canary = 33195},
  ["pool-57"] = {stable = 45397, canary = 36403},
  ["pool-58"] = {stable = 41111, canary = 33397},
  ["pool-59"] = {stable = 33499, canary = 40567},
  ["pool-60"] = {stable = 38481, canary = 43247},
  ["pool-61"] = {stable = 46631, canary = 43093},
  ["pool-62"] = {stable = 33827, canary = 39821},
  ["pool-63"] = {stable = 43417, canary = 43463},
  ["pool-64"] = {stable = 43327, canary = 45003},
  ["pool-65"] = {stable = 40189, canary = 40217},
  ["pool-66"] = {stable = 33645, canary = 34473},
  ["pool-67"] = {stable = 37513, canary = 45065},
  ["pool-68"] = {stable = 43689, canary = 35497},
  ["pool-69"] = {stable = 46121, canary = 33717},
  ["pool-70"] = {stable = 43045, canary = 46501},
  ["pool-71"] = {stable = 45531, canary = 36967},
  ["pool-72"] = {stable = 38025, canary = 40769},
  ["pool-73"] = {stable = 40245, canary = 35435},
  ["pool-74"] = {stable = 33367, canary = 35033},
  ["pool-75"] = {stable = 46279, canary = 46461},
  ["pool-76"] = {stable = 46123, canary = 44891},
  ["pool-77"] = {stable = 34717, canary = 38813},
  ["pool-78"] = {stable = 37521, canary = 35217},
  ["pool-79"] = {stable = 37081, canary = 35283},
  ["pool-80"] = {stable = 40515, canary = 44531},
  ["pool-81"] = {stable = 42097, canary = 43195},
  ["pool-82"] = {stable = 34347, canary = 39653},
  ["pool-83"] = {stable = 43589, canary = 41743},
  ["pool-84"] = {stable = 40115, canary = 37869},
  ["pool-85"] = {stable = 35653, canary = 37713},
  ["pool-86"] = {stable = 36831, canary = 46039},
  ["pool-87"] = {stable = 33841, canary = 33417},
  ["pool-88"] = {stable = 46209, canary = 34995},
  ["pool-89"] = {stable = 45991, canary = 34031},
  ["pool-90"] = {stable = 34549, canary = 45411},
  ["pool-91"] = {stable = 40291, canary = 39841},
  ["pool-92"] = {stable = 45815, canary = 33387},
  ["pool-93"] = {stable = 38777, canary = 38391},
  ["pool-94"] = {stable = 40655, canary = 36459},
  ["pool-95"] = {stable = 46191, canary = 42345},
  ["pool-96"] = {stable = 40059, canary = 33269},
  ["pool-97"] = {stable = 37487, canary = 35585},
  ["pool-98"] = {stable = 38921, canary = 39091},
  ["pool-99"] = {stable = 36119, canary = 46125},
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
