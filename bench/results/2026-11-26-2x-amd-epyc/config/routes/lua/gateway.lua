local balancer = require "ngx.balancer"
local pools = {
  ["pool-00"] = {stable = 37117, canary = 46829},
  ["pool-01"] = {stable = 34107, canary = 40635},
  ["pool-02"] = {stable = 42125, canary = 34719},
  ["pool-03"] = {stable = 37755, canary = 35839},
  ["pool-04"] = {stable = 37119, canary = 33813},
  ["pool-05"] = {stable = 36585, canary = 38599},
  ["pool-06"] = {stable = 35689, canary = 38471},
  ["pool-07"] = {stable = 44951, canary = 43697},
  ["pool-08"] = {stable = 45539, canary = 45609},
  ["pool-09"] = {stable = 34603, canary = 46639},
  ["pool-10"] = {stable = 42953, canary = 46337},
  ["pool-11"] = {stable = 44325, canary = 39069},
  ["pool-12"] = {stable = 44003, canary = 38081},
  ["pool-13"] = {stable = 34677, canary = 40353},
  ["pool-14"] = {stable = 39849, canary = 43771},
  ["pool-15"] = {stable = 46179, canary = 35493},
  ["pool-16"] = {stable = 44317, canary = 35595},
  ["pool-17"] = {stable = 40493, canary = 39799},
  ["pool-18"] = {stable = 45821, canary = 42021},
  ["pool-19"] = {stable = 46717, canary = 33291},
  ["pool-20"] = {stable = 44781, canary = 36433},
  ["pool-21"] = {stable = 33797, canary = 36995},
  ["pool-22"] = {stable = 44499, canary = 36281},
  ["pool-23"] = {stable = 41931, canary = 37641},
  ["pool-24"] = {stable = 36707, canary = 41457},
  ["pool-25"] = {stable = 34877, canary = 35829},
  ["pool-26"] = {stable = 45363, canary = 41019},
  ["pool-27"] = {stable = 44273, canary = 37567},
  ["pool-28"] = {stable = 45297, canary = 39925},
  ["pool-29"] = {stable = 42181, canary = 42375},
  ["pool-30"] = {stable = 36625, canary = 43961},
  ["pool-31"] = {stable = 38843, canary = 33603},
  ["pool-32"] = {stable = 43923, canary = 35549},
  ["pool-33"] = {stable = 39681, canary = 33305},
  ["pool-34"] = {stable = 34681, canary = 35587},
  ["pool-35"] = {stable = 42941, canary = 35929},
  ["pool-36"] = {stable = 45875, canary = 42357},
  ["pool-37"] = {stable = 39719, canary = 39323},
  ["pool-38"] = {stable = 46439, canary = 34255},
  ["pool-39"] = {stable = 36087, canary = 40005},
  ["pool-40"] = {stable = 43087, canary = 41391},
  ["pool-41"] = {stable = 33345, canary = 36481},
  ["pool-42"] = {stable = 38389, canary = 35533},
  ["pool-43"] = {stable = 38075, canary = 37821},
  ["pool-44"] = {stable = 39485, canary = 35591},
  ["pool-45"] = {stable = 45985, canary = 33289},
  ["pool-46"] = {stable = 36219, canary = 37891},
  ["pool-47"] = {stable = 42431, canary = 46265},
  ["pool-48"] = {stable = 46823, canary = 35999},
  ["pool-49"] = {stable = 44495, canary = 42219},
  ["pool-50"] = {stable = 46099, canary = 40441},
  ["pool-51"] = {stable = 39077, canary = 44441},
  ["pool-52"] = {stable = 43647, canary = 33037},
  ["pool-53"] = {stable = 36859, canary = 41603},
  ["pool-54"] = {stable = 38945, canary = 33849},
  ["pool-55"] = {stable = 40437, canary = 32925},
  ["pool-56"] = {stable = 43393, canary = 34031},
  ["pool-57"] = {stable = 44319, canary = 45869},
  ["pool-58"] = {stable = 44821, canary = 32991},
  ["pool-59"] = {stable = 33737, canary = 35471},
  ["pool-60"] = {stable = 35543, canary = 40415},
  ["pool-61"] = {stable = 35851, canary = 36201},
  ["pool-62"] = {stable = 35337, canary = 43017},
  ["pool-63"] = {stable = 40045, canary = 40961},
  ["pool-64"] = {stable = 37111, canary = 32937},
  ["pool-65"] = {stable = 38249, canary = 33673},
  ["pool-66"] = {stable = 35531, canary = 42423},
  ["pool-67"] = {stable = 37621, canary = 33383},
  ["pool-68"] = {stable = 44861, canary = 40925},
  ["pool-69"] = {stable = 40647, canary = 38623},
  ["pool-70"] = {stable = 45755, canary = 43941},
  ["pool-71"] = {stable = 34269, canary = 46171},
  ["pool-72"] = {stable = 35537, canary = 46775},
  ["pool-73"] = {stable = 33343, canary = 35061},
  ["pool-74"] = {stable = 46157, canary = 37579},
  ["pool-75"] = {stable = 33279, canary = 34785},
  ["pool-76"] = {stable = 41071, canary = 43483},
  ["pool-77"] = {stable = 33679, canary = 39267},
  ["pool-78"] = {stable = 36133, canary = 43561},
  ["pool-79"] = {stable = 34465, canary = 39493},
  ["pool-80"] = {stable = 33663, canary = 43455},
  ["pool-81"] = {stable = 44471, canary = 35847},
  ["pool-82"] = {stable = 43045, canary = 45827},
  ["pool-83"] = {stable = 45805, canary = 46275},
  ["pool-84"] = {stable = 40985, canary = 40867},
  ["pool-85"] = {stable = 39891, canary = 43599},
  ["pool-86"] = {stable = 37879, canary = 44383},
  ["pool-87"] = {stable = 41185, canary = 40149},
  ["pool-88"] = {stable = 39405, canary = 38929},
  ["pool-89"] = {stable = 36753, canary = 34271},
  ["pool-90"] = {stable = 37131, canary = 32889},
  ["pool-91"] = {stable = 34717, canary = 33145},
  ["pool-92"] = {stable = 43397, canary = 40519},
  ["pool-93"] = {stable = 44829, canary = 37037},
  ["pool-94"] = {stable = 32927, canary = 37153},
  ["pool-95"] = {stable = 40989, canary = 38367},
  ["pool-96"] = {stable = 40791, canary = 46041},
  ["pool-97"] = {stable = 37987, canary = 36887},
  ["pool-98"] = {stable = 44897, canary = 43059},
  ["pool-99"] = {stable = 35703, canary = 37823},
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
