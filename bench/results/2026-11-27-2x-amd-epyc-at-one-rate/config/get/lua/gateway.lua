local balancer = require "ngx.balancer"
local pools = {
  ["shop"] = {stable = 34101, canary = 38449},
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
