-- Recognises an API key, `hk_<id>_<secret>`, and puts it into the form that the next filter checks. Above it
-- stand, written by the front door's configuration: `keys`, by id what a key allows; `tokens`, whether other
-- bearer tokens may pass to a filter that knows them. What is set here counts only if the secret is right:
-- else the next filter ends the request.
local rank = { batch = 1, interactive = 2, live = 3 }

function envoy_on_request(handle)
  local headers = handle:headers()
  local given = headers:get("x-api-key")
  if not given then
    local authorization = headers:get("authorization")
    given = authorization and string.match(authorization, "^[Bb]earer +(%S+)$")
  end
  if not given then
    handle:respond({ [":status"] = "401", ["www-authenticate"] = "Bearer" }, none)
    return
  end
  local id, secret = string.match(given, "^hk_(%w+)_([%w_-]+)$")
  local key = id and keys[id]
  if not key then
    if not id and tokens then
      return
    end
    handle:respond({ [":status"] = "401", ["www-authenticate"] = "Bearer" }, wrong)
    return
  end
  headers:remove("authorization")
  headers:replace("x-headend-credential", "Basic " .. handle:base64Escape(id .. ":" .. secret))
  headers:replace("x-headend-tenant", key[1])
  headers:replace("x-headend-roles", key[2])
  headers:replace("x-headend-top-class", key[3])
  local asked = headers:get("x-headend-class")
  if rank[asked] and rank[asked] > rank[key[3]] then
    headers:replace("x-headend-class", key[3])
    handle:clearRouteCache()
  end
end
