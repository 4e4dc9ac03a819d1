local balancer = require "ngx.balancer"
local pools = {
  ["pool-00"] = {stable = 40337, canary = 43283},
  ["pool-01"] = {stable = 45791, canary = 33247},
  ["pool-02"] = {stable = 37853, canary = 39127},
  ["pool-03"] = {stable = 42297, canary = 45161},
  ["pool-04"] = {stable = 41041, canary = 37959},
  ["pool-05"] = {stable = 41887, canary = 36845},
  ["pool-06"] = {stable = 35845, canary = 37105},
  ["pool-07"] = {stable = 42123, canary = 46385},
  ["pool-08"] = {stable = 34569, canary = 32957},
  ["pool-09"] = {stable = 40967, canary = 46527},
  ["pool-10"] = {stable = 37075, canary = 38245},
  ["pool-11"] = {stable = 33305, canary = 35413},
  ["pool-12"] = {stable = 39519, canary = 33613},
  ["pool-13"] = {stable = 45829, canary = 38573},
  ["pool-14"] = {stable = 45629, canary = 42753},
  ["pool-15"] = {stable = 42653, canary = 34019},
  ["pool-16"] = {stable = 33313, canary = 38497},
  ["pool-17"] = {stable = 37199, canary = 40323},
  ["pool-18"] = {stable = 39361, canary = 39307},
  ["pool-19"] = {stable = 34739, canary = 39413},
  ["pool-20"] = {stable = 46513, canary = 41159},
  ["pool-21"] = {stable = 41145, canary = 46271},
  ["pool-22"] = {stable = 42899, canary = 39009},
  ["pool-23"] = {stable = 35209, canary = 45979},
  ["pool-24"] = {stable = 39927, canary = 38321},
  ["pool-25"] = {stable = 38909, canary = 42573},
  ["pool-26"] = {stable = 33163, canary = 39435},
  ["pool-27"] = {stable = 37055, canary = 34015},
  ["pool-28"] = {stable = 38407, canary = 40825},
  ["pool-29"] = {stable = 36037, canary = 40675},
  ["pool-30"] = {stable = 46145, canary = 34353},
  ["pool-31"] = {stable = 36427, canary = 36359},
  ["pool-32"] = {stable = 44933, canary = 34801},
  ["pool-33"] = {stable = 36445, canary = 42013},
  ["pool-34"] = {stable = 41445, canary = 42841},
  ["pool-35"] = {stable = 39223, canary = 37041},
  ["pool-36"] = {stable = 35985, canary = 46611},
  ["pool-37"] = {stable = 44643, canary = 33097},
  ["pool-38"] = {stable = 42707, canary = 33587},
  ["pool-39"] = {stable = 40711, canary = 46545},
  ["pool-40"] = {stable = 35017, canary = 42249},
  ["pool-41"] = {stable = 36007, canary = 42685},
  ["pool-42"] = {stable = 44681, canary = 44755},
  ["pool-43"] = {stable = 34341, canary = 42383},
  ["pool-44"] = {stable = 43939, canary = 41007},
  ["pool-45"] = {stable = 41065, canary = 43541},
  ["pool-46"] = {stable = 42585, canary = 37005},
  ["pool-47"] = {stable = 40213, canary = 38257},
  ["pool-48"] = {stable = 40691, canary = 38893},
  ["pool-49"] = {stable = 41249, canary = 45401},
  ["pool-50"] = {stable = 41601, canary = 33481},
  ["pool-51"] = {stable = 37487, canary = 39255},
  ["pool-52"] = {stable = 45443, canary = 39623},
  ["pool-53"] = {stable = 32869, canary = 43409},
  ["pool-54"] = {stable = 40383, canary = 37803},
  ["pool-55"] = {stable = 36459, canary = 42001},
  ["pool-56"] = {stable = 42377, canary = 42919},
  ["pool-57"] = {stable = 46245, canary = 36247},
  ["pool-58"] = {stable = 40551, canary = 44947},
  ["pool-59"] = {stable = 40817, canary = 32935},
  ["pool-60"] = {stable = 32977, canary = 45627},
  ["pool-61"] = {stable = 33189, canary = 38603},
  ["pool-62"] = {stable = 46071, canary = 45867},
  ["pool-63"] = {stable = 43365, canary = 41531},
  ["pool-64"] = {stable = 33631, canary = 42339},
  ["pool-65"] = {stable = 40403, canary = 35529},
  ["pool-66"] = {stable = 40975, canary = 41419},
  ["pool-67"] = {stable = 43861, canary = 44591},
  ["pool-68"] = {stable = 40977, canary = 38781},
  ["pool-69"] = {stable = 42029, canary = 46215},
  ["pool-70"] = {stable = 44861, canary = 37587},
  ["pool-71"] = {stable = 37007, canary = 41385},
  ["pool-72"] = {stable = 35531, canary = 39003},
  ["pool-73"] = {stable = 43487, canary = 32967},
  ["pool-74"] = {stable = 43717, canary = 37961},
  ["pool-75"] = {stable = 38253, canary = 40359},
  ["pool-76"] = {stable = 34683, canary = 44845},
  ["pool-77"] = {stable = 42621, canary = 38629},
  ["pool-78"] = {stable = 44017, canary = 45403},
  ["pool-79"] = {stable = 40293, canary = 34799},
  ["pool-80"] = {stable = 39653, canary = 45783},
  ["pool-81"] = {stable = 46373, canary = 43981},
  ["pool-82"] = {stable = 37211, canary = 34315},
  ["pool-83"] = {stable = 46285, canary = 36857},
  ["pool-84"] = {stable = 44573, canary = 36199},
  ["pool-85"] = {stable = 36947, canary = 43527},
  ["pool-86"] = {stable = 41961, canary = 36873},
  ["pool-87"] = {stable = 41191, canary = 39537},
  ["pool-88"] = {stable = 38261, canary = 40131},
  ["pool-89"] = {stable = 43517, canary = 45631},
  ["pool-90"] = {stable = 34987, canary = 35903},
  ["pool-91"] = {stable = 42423, canary = 37973},
  ["pool-92"] = {stable = 43133, canary = 36755},
  ["pool-93"] = {stable = 41711, canary = 34619},
  ["pool-94"] = {stable = 34827, canary = 39787},
  ["pool-95"] = {stable = 43555, canary = 34915},
  ["pool-96"] = {stable = 39793, canary = 39867},
  ["pool-97"] = {stable = 38209, canary = 45637},
  ["pool-98"] = {stable = 37945, canary = 38071},
  ["pool-99"] = {stable = 38461, canary = 36137},
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
