-- Whether a caller who has only one of the roles asks for what the other allows. Above it stand, written by
-- the front door's configuration: `inference` and `statistics`, lists of Lua patterns of paths.
local function among(patterns, path)
  for index = 1, #patterns do
    if string.find(path, patterns[index]) then return true end
  end
  return false
end

local function lacks_role(headers, infers, operates)
  if infers and operates then return false end
  local path = string.match(headers:get(":path"), "^[^?]*")
  return not infers and among(inference, path) or not operates and among(statistics, path)
end
