-- Routes a gRPC call by the model that its message names: in every message of the protocol that names one, it
-- is field 1 (https://protobuf.dev/programming-guides/encoding/), which serialisers write first.
local byte, sub = string.byte, string.sub
local WINDOW = 128

-- `at` counts from 1. Most of what is looked at lies in `head`, the first bytes of `body`.
local function byte_at(body, head, at)
  if at <= #head then return byte(head, at) end
  return at <= body:length() and byte(body:getBytes(at - 1, 1)) or nil
end

-- A varint, and where what follows begins.
local function varint(body, head, at)
  local value, unit = 0, 1
  while true do
    local found = byte_at(body, head, at)
    if not found or unit > 2 ^ 49 then return nil end
    value, unit, at = value + found % 128 * unit, unit * 128, at + 1
    if found < 128 then return value, at end
  end
end

local function name_in(body)
  local length = body:length()
  local head = body:getBytes(0, math.min(length, WINDOW))
  -- A frame begins with a byte that says whether it is compressed, and four of its length.
  if byte(head, 1) ~= 0 then return nil end
  local at = 6
  while at <= length do
    local tag, value
    tag, at = varint(body, head, at)
    if not tag then return nil end
    local kind = tag % 8
    if kind == 2 then
      value, at = varint(body, head, at)
      if not value or at + value > length + 1 then return nil end
      if tag == 10 then
        return at + value <= #head + 1 and sub(head, at, at + value - 1) or body:getBytes(at - 1, value)
      end
      at = at + value
    elseif kind == 0 then
      value, at = varint(body, head, at)
      if not value then return nil end
    elseif kind == 1 then
      at = at + 8
    elseif kind == 5 then
      at = at + 4
    else
      return nil
    end
  end
end

function envoy_on_request(handle)
  local body = handle:body()
  route_to(handle, body and body:length() > 0 and name_in(body))
end
