local balancer = require "ngx.balancer"
local pools = {
  ["pool-00"] = {stable = 40799, canary = 37035},
  ["pool-01"] = {stable = 45935, canary = 39741},
  ["pool-02"] = {stable = 38687, canary = 44383},
  ["pool-03"] = {stable = 41863, canary = 41265},
  ["pool-04"] = {stable = 40229, canary = 44765},
  ["pool-05"] = {stable = 40467, canary = 43691},
  ["pool-06"] = {stable = 46149, canary = 36597},
  ["pool-07"] = {stable = 40615, canary = 43125},
  ["pool-08"] = {stable = 41021, canary = 36877},
  ["pool-09"] = {stable = 41681, canary = 32895},
  ["pool-10"] = {stable = 35463, canary = 39093},
  ["pool-11"] = {stable = 39147, canary = 45937},
  ["pool-12"] = {stable = 33373, canary = 37539},
  ["pool-13"] = {stable = 38185, canary = 42081},
  ["pool-14"] = {stable = 35027, canary = 38285},
  ["pool-15"] = {stable = 45199, canary = 45561},
  ["pool-16"] = {stable = 44041, canary = 36143},
  ["pool-17"] = {stable = 42359, canary = 45477},
  ["pool-18"] = {stable = 34087, canary = 32829},
  ["pool-19"] = {stable = 36663, canary = 45721},
  ["pool-20"] = {stable = 35447, canary = 43805},
  ["pool-21"] = {stable = 39137, canary = 34605},
  ["pool-22"] = {stable = 42491, canary = 34139},
  ["pool-23"] = {stable = 39475, canary = 35249},
  ["pool-24"] = {stable = 42925, canary = 41417},
  ["pool-25"] = {stable = 37789, canary = 42029},
  ["pool-26"] = {stable = 40025, canary = 41729},
  ["pool-27"] = {stable = 46483, canary = 46159},
  ["pool-28"] = {stable = 39481, canary = 33083},
  ["pool-29"] = {stable = 44277, canary = 40567},
  ["pool-30"] = {stable = 35059, canary = 35167},
  ["pool-31"] = {stable = 45579, canary = 35155},
  ["pool-32"] = {stable = 39279, canary = 42087},
  ["pool-33"] = {stable = 41459, canary = 46491},
  ["pool-34"] = {stable = 39231, canary = 32973},
  ["pool-35"] = {stable = 41859, canary = 46093},
  ["pool-36"] = {stable = 38135, canary = 33871},
  ["pool-37"] = {stable = 33081, canary = 37779},
  ["pool-38"] = {stable = 35391, canary = 34795},
  ["pool-39"] = {stable = 33627, canary = 39335},
  ["pool-40"] = {stable = 38177, canary = 41393},
  ["pool-41"] = {stable = 36453, canary = 37399},
  ["pool-42"] = {stable = 45293, canary = 33307},
  ["pool-43"] = {stable = 40571, canary = 42915},
  ["pool-44"] = {stable = 42235, canary = 40537},
  ["pool-45"] = {stable = 33469, canary = 41963},
  ["pool-46"] = {stable = 33393, canary = 40357},
  ["pool-47"] = {stable = 33309, canary = 44419},
  ["pool-48"] = {stable = 36615, canary = 36239},
  ["pool-49"] = {stable = 41567, canary = 39673},
  ["pool-50"] = {stable = 36907, canary = 45245},
  ["pool-51"] = {stable = 34939, canary = 35141},
  ["pool-52"] = {stable = 35611, canary = 46525},
  ["pool-53"] = {stable = 46281, canary = 45117},
  ["pool-54"] = {stable = 42917, canary = 37281},
  ["pool-55"] = {stable = 44245, canary = 44173},
  ["pool-56"] = {stable = 39933, canary = 38067},
  ["pool-57"] = {stable = 37445, canary = 33441},
  ["pool-58"] = {stable = 32897, canary = 33723},
  ["pool-59"] = {stable = 43087, canary = 42469},
  ["pool-60"] = {stable = 37991, canary = 36037},
  ["pool-61"] = {stable = 40905, canary = 43249},
  ["pool-62"] = {stable = 42503, canary = 36885},
  ["pool-63"] = {stable = 46707, canary = 41433},
  ["pool-64"] = {stable = 38733, canary = 46861},
  ["pool-65"] = {stable = 43395, canary = 36073},
  ["pool-66"] = {stable = 33947, canary = 45071},
  ["pool-67"] = {stable = 36053, canary = 37421},
  ["pool-68"] = {stable = 44377, canary = 36965},
  ["pool-69"] = {stable = 32963, canary = 43645},
  ["pool-70"] = {stable = 34021, canary = 34035},
  ["pool-71"] = {stable = 37561, canary = 33033},
  ["pool-72"] = {stable = 43251, canary = 41831},
  ["pool-73"] = {stable = 34615, canary = 37467},
  ["pool-74"] = {stable = 39189, canary = 34257},
  ["pool-75"] = {stable = 34399, canary = 40829},
  ["pool-76"] = {stable = 46199, canary = 43543},
  ["pool-77"] = {stable = 42591, canary = 40167},
  ["pool-78"] = {stable = 43171, canary = 38091},
  ["pool-79"] = {stable = 42475, canary = 38983},
  ["pool-80"] = {stable = 41269, canary = 35669},
  ["pool-81"] = {stable = 38475, canary = 37593},
  ["pool-82"] = {stable = 33527, canary = 46323},
  ["pool-83"] = {stable = 35883, canary = 37397},
  ["pool-84"] = {stable = 40827, canary = 41981},
  ["pool-85"] = {stable = 44809, canary = 35159},
  ["pool-86"] = {stable = 45901, canary = 41007},
  ["pool-87"] = {stable = 33137, canary = 38407},
  ["pool-88"] = {stable = 35471, canary = 37191},
  ["pool-89"] = {stable = 45983, canary = 43085},
  ["pool-90"] = {stable = 35851, canary = 46673},
  ["pool-91"] = {stable = 42911, canary = 41661},
  ["pool-92"] = {stable = 42547, canary = 38657},
  ["pool-93"] = {stable = 36525, canary = 44043},
  ["pool-94"] = {stable = 41663, canary = 33869},
  ["pool-95"] = {stable = 36467, canary = 43551},
  ["pool-96"] = {stable = 45905, canary = 40387},
  ["pool-97"] = {stable = 37249, canary = 42229},
  ["pool-98"] = {stable = 39295, canary = 41873},
  ["pool-99"] = {stable = 43383, canary = 36381},
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
