local balancer = require "ngx.balancer"
local pools = {
  ["pool-00"] = {stable = 34769, canary = 35277},
  ["pool-01"] = {stable = 37277, canary = 45063},
  ["pool-02"] = {stable = 34283, canary = 36495},
  ["pool-03"] = {stable = 46429, canary = 36485},
  ["pool-04"] = {stable = 33965, canary = 38727},
  ["pool-05"] = {stable = 42589, canary = 37473},
  ["pool-06"] = {stable = 45015, canary = 41973},
  ["pool-07"] = {stable = 34849, canary = 38681},
  ["pool-08"] = {stable = 37897, canary = 37697},
  ["pool-09"] = {stable = 42567, canary = 40785},
  ["pool-10"] = {stable = 35561, canary = 40449},
  ["pool-11"] = {stable = 33941, canary = 36995},
  ["pool-12"] = {stable = 38045, canary = 43067},
  ["pool-13"] = {stable = 42025, canary = 39285},
  ["pool-14"] = {stable = 44091, canary = 33779},
  ["pool-15"] = {stable = 36647, canary = 40161},
  ["pool-16"] = {stable = 38805, canary = 38163},
  ["pool-17"] = {stable = 37587, canary = 37115},
  ["pool-18"] = {stable = 46477, canary = 36795},
  ["pool-19"] = {stable = 33841, canary = 46881},
  ["pool-20"] = {stable = 45207, canary = 44787},
  ["pool-21"] = {stable = 46187, canary = 46017},
  ["pool-22"] = {stable = 42769, canary = 45347},
  ["pool-23"] = {stable = 36007, canary = 41707},
  ["pool-24"] = {stable = 40287, canary = 35427},
  ["pool-25"] = {stable = 42035, canary = 36527},
  ["pool-26"] = {stable = 44661, canary = 43481},
  ["pool-27"] = {stable = 36827, canary = 36447},
  ["pool-28"] = {stable = 36011, canary = 44377},
  ["pool-29"] = {stable = 44039, canary = 38469},
  ["pool-30"] = {stable = 43665, canary = 39413},
  ["pool-31"] = {stable = 35031, canary = 42665},
  ["pool-32"] = {stable = 44831, canary = 38561},
  ["pool-33"] = {stable = 38247, canary = 37541},
  ["pool-34"] = {stable = 46857, canary = 41187},
  ["pool-35"] = {stable = 36847, canary = 35207},
  ["pool-36"] = {stable = 41159, canary = 43201},
  ["pool-37"] = {stable = 46797, canary = 46667},
  ["pool-38"] = {stable = 36723, canary = 33727},
  ["pool-39"] = {stable = 42371, canary = 44511},
  ["pool-40"] = {stable = 46221, canary = 44043},
  ["pool-41"] = {stable = 40269, canary = 43689},
  ["pool-42"] = {stable = 40789, canary = 33269},
  ["pool-43"] = {stable = 33315, canary = 38867},
  ["pool-44"] = {stable = 46041, canary = 45923},
  ["pool-45"] = {stable = 40983, canary = 44625},
  ["pool-46"] = {stable = 36431, canary = 37785},
  ["pool-47"] = {stable = 34539, canary = 43925},
  ["pool-48"] = {stable = 33831, canary = 39647},
  ["pool-49"] = {stable = 46119, canary = 37159},
  ["pool-50"] = {stable = 43641, canary = 33951},
  ["pool-51"] = {stable = 39441, canary = 44355},
  ["pool-52"] = {stable = 44133, canary = 39783},
  ["pool-53"] = {stable = 36861, canary = 45503},
  ["pool-54"] = {stable = 43967, canary = 35439},
  ["pool-55"] = {stable = 46585, canary = 39521},
  ["pool-56"] = {stable = 36815, canary = 36125},
  ["pool-57"] = {stable = 38487, canary = 44589},
  ["pool-58"] = {stable = 34689, canary = 38311},
  ["pool-59"] = {stable = 43263, canary = 37029},
  ["pool-60"] = {stable = 40753, canary = 35639},
  ["pool-61"] = {stable = 32805, canary = 42237},
  ["pool-62"] = {stable = 33517, canary = 42473},
  ["pool-63"] = {stable = 39223, canary = 37161},
  ["pool-64"] = {stable = 43913, canary = 44525},
  ["pool-65"] = {stable = 36551, canary = 37701},
  ["pool-66"] = {stable = 37543, canary = 33497},
  ["pool-67"] = {stable = 36113, canary = 35681},
  ["pool-68"] = {stable = 36349, canary = 33365},
  ["pool-69"] = {stable = 38611, canary = 39471},
  ["pool-70"] = {stable = 33641, canary = 40015},
  ["pool-71"] = {stable = 36717, canary = 37033},
  ["pool-72"] = {stable = 33285, canary = 45451},
  ["pool-73"] = {stable = 40897, canary = 33101},
  ["pool-74"] = {stable = 34971, canary = 36949},
  ["pool-75"] = {stable = 41627, canary = 35447},
  ["pool-76"] = {stable = 43991, canary = 42841},
  ["pool-77"] = {stable = 39313, canary = 40567},
  ["pool-78"] = {stable = 38227, canary = 43077},
  ["pool-79"] = {stable = 33481, canary = 45811},
  ["pool-80"] = {stable = 42635, canary = 34725},
  ["pool-81"] = {stable = 40463, canary = 36311},
  ["pool-82"] = {stable = 46459, canary = 36785},
  ["pool-83"] = {stable = 39617, canary = 37229},
  ["pool-84"] = {stable = 35143, canary = 37493},
  ["pool-85"] = {stable = 42343, canary = 44637},
  ["pool-86"] = {stable = 32925, canary = 46003},
  ["pool-87"] = {stable = 37119, canary = 44439},
  ["pool-88"] = {stable = 42831, canary = 39281},
  ["pool-89"] = {stable = 44641, canary = 46257},
  ["pool-90"] = {stable = 33393, canary = 45123},
  ["pool-91"] = {stable = 44041, canary = 46431},
  ["pool-92"] = {stable = 38185, canary = 39517},
  ["pool-93"] = {stable = 36567, canary = 36255},
  ["pool-94"] = {stable = 39013, canary = 42607},
  ["pool-95"] = {stable = 37491, canary = 36975},
  ["pool-96"] = {stable = 35965, canary = 45415},
  ["pool-97"] = {stable = 44695, canary = 34925},
  ["pool-98"] = {stable = 43007, canary = 42933},
  ["pool-99"] = {stable = 44623, canary = 40091},
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
