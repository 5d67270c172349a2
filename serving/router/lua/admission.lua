-- Says for each request whether it is answered here, at another site, or not at all.
-- Above it stand, written by the front door's configuration: `here`, the name of a cluster; `away`, what the
-- names of the clusters of other sites begin with, or nil where no other site may be asked; `counted`, the
-- clusters whose requests are worked on here; `file`, where the figures are; `default`, the class of requests
-- that name none.
local figures, read_at = {}, 0
local MILLISECONDS = {H = 3600000, M = 60000, S = 1000, m = 1, u = 0.001, n = 0.000001}
local time, match, random = os.time, string.match, math.random

-- Looks at most once a second; a file that is not there, or a line that makes no sense, leaves what was.
local function read_figures(now)
  read_at = now
  local opened = io.open(file)
  if not opened then return end
  local found = {}
  for name, value in opened:read("*a"):gmatch("(%S+) (%S+)\n") do
    found[name] = tonumber(value) or figures[name]
  end
  opened:close()
  -- All of it: a figure that is not there any more does not count any more.
  figures = found
end

-- Every call of `handle` costs: where nothing depends on it, nothing is counted.
local function in_flight(handle)
  local busy = 0
  if not figures.counted then return busy end
  for index = 1, #counted do
    local cluster = handle:getCluster(counted[index])
    if cluster then
      busy = busy + cluster:numRequests() + cluster:numPendingRequests()
    end
  end
  return busy
end

local function deadline_ms(headers)
  local said = headers:get("x-headend-deadline-ms")
  if said then return tonumber(said) end
  said = headers:get("grpc-timeout")
  if not said then return nil end
  local amount, unit = match(said, "^(%d+)([HMSmun])$")
  return amount and amount * MILLISECONDS[unit]
end

-- Whether the answer would come after the request's deadline, as fast as this site is.
local function too_late(headers, busy)
  if not figures.service_ms then return false end
  local deadline = deadline_ms(headers)
  if not deadline then return false end
  local wait = math.max(0, busy + 1 - figures.at_once) * figures.per_request_ms
  return deadline < figures.service_ms + wait
end

function envoy_on_route(handle)
  local now = time()
  if now ~= read_at then read_figures(now) end
  local headers = handle:headers()
  local class = headers:get("x-headend-class") or default
  local busy = in_flight(handle)
  if busy >= (figures["room." .. class] or math.huge) then
    return away and away .. class or "refused.full"
  end
  if too_late(headers, busy) then
    return away and away .. class or "refused.late"
  end
  if not away and busy >= (figures.guests_at or math.huge) and headers:get("x-envoy-attempt-count") == "1" then
    return "refused.full"
  end
  if away and busy >= (figures.stay_below or 0) then
    local leaves = busy >= (figures.leave_at or math.huge)
    if leaves or random() >= (figures["kept." .. class] or 1) then return away .. class end
  end
  return here
end
