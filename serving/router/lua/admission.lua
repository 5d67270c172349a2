-- Says for each request whether it is answered here, at another site, or not at all.
-- Above it stand, written by the front door's configuration: `here`, the name of a cluster; `away`, what the
-- names of the clusters of other sites begin with, or nil where no other site may be asked; `counted`, the
-- clusters whose requests are worked on here; `file`, where the figures are; `default`, the class of requests
-- that name none.
local figures, options, read_at = {}, {}, 0
local MILLISECONDS = {H = 3600000, M = 60000, S = 1000, m = 1, u = 0.001, n = 0.000001}
local OPTION = "^option (%S+)" .. string.rep(" (%S+)", 8) .. "$"
local NAMED = {"base", "servers", "each", "others", "looked", "live", "interactive", "batch"}
local time, match, max, random = os.time, string.match, math.max, math.random

local function read_option(line)
  local cluster, base, servers, each, others, looked, live, interactive, batch = match(line, OPTION)
  local option = {
    cluster = cluster,
    base = tonumber(base),
    servers = tonumber(servers),
    each = tonumber(each),
    others = tonumber(others),
    looked = tonumber(looked),
    live = tonumber(live),
    interactive = tonumber(interactive),
    batch = tonumber(batch),
  }
  for _, name in ipairs(NAMED) do
    if not option[name] then return nil end
  end
  return option
end

-- Looks at most once a second; a file that is not there, or a line that makes no sense, leaves what was.
local function read_figures(now)
  read_at = now
  local opened = io.open(file)
  if not opened then return end
  local found, chosen = {}, {}
  for line in opened:lines() do
    local name, value = match(line, "^(%S+) (%S+)$")
    local option = not name and read_option(line)
    if name then
      found[name] = tonumber(value) or figures[name]
    elseif option and option.cluster == "here" then
      chosen.here = option
    elseif option then
      chosen[#chosen + 1] = option
    end
  end
  opened:close()
  -- All of it: a figure that is not there any more does not count any more.
  figures, options = found, chosen
end

local function at(handle, name)
  local cluster = handle:getCluster(name)
  return cluster and cluster:numRequests() + cluster:numPendingRequests()
end

-- Every call of `handle` costs: where nothing depends on it, nothing is counted.
local function in_flight(handle)
  local busy = 0
  if not figures.counted then return busy end
  for index = 1, #counted do
    busy = busy + (at(handle, counted[index]) or 0)
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
  local wait = max(0, busy + 1 - figures.at_once) * figures.per_request_ms
  return deadline < figures.service_ms + wait
end

local function seconds(option, busy)
  return option.base + option.each * max(0, busy + 1 - option.servers)
end

-- The other site that adds least to the time of all, where that is less than `most`, or whose turn it is to be
-- looked at; nil: there is none that has room.
local function elsewhere(handle, class, most)
  local best, lot = nil, random()
  for index = 1, #options do
    local option = options[index]
    lot = lot - option.looked
    -- Counting costs: of a site that is too far in any case, it is not asked.
    local sent = (lot < 0 or option.base < most) and at(handle, option.cluster)
    if sent then
      if lot < 0 then return option.cluster end
      local busy = option.others + sent
      local takes = seconds(option, busy)
      if takes < most and busy < (option[class] or math.huge) then best, most = option.cluster, takes end
    end
  end
  return best
end

function envoy_on_route(handle)
  local now = time()
  if now ~= read_at then read_figures(now) end
  local headers = handle:headers()
  local class = headers:get("x-headend-class") or default
  local busy = in_flight(handle)
  if busy >= (figures["room." .. class] or math.huge) then
    return away and (elsewhere(handle, class, math.huge) or away .. class) or "refused.full"
  end
  if too_late(headers, busy) then
    return away and (elsewhere(handle, class, math.huge) or away .. class) or "refused.late"
  end
  if not away then return here end
  local home = options.here
  if home then
    if home.looked > 0 and random() < home.looked then return here end
    return elsewhere(handle, class, seconds(home, busy)) or here
  end
  if busy >= (figures.stay_below or 0) then
    local leaves = busy >= (figures.leave_at or math.huge)
    if leaves or random() >= (figures["kept." .. class] or 1) then return away .. class end
  end
  return here
end
