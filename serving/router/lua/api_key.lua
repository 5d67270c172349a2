-- Recognises an API key, `hk_<id>_<secret>`, and puts it into the form that the next filter checks. Above it
-- stand, written by the front door's configuration: `keys`, by id what a key allows; `tokens`, whether other
-- bearer tokens may pass to a filter that knows them. What is set here counts only if the secret is right:
-- else the next filter ends the request. Every call of `headers` and `handle` costs.
local rank = { batch = 1, interactive = 2, live = 3 }
local match = string.match

function envoy_on_request(handle)
  local headers = handle:headers()
  local given = headers:get("x-api-key")
  if not given then
    local authorization = headers:get("authorization")
    given = authorization and match(authorization, "^[Bb]earer +(%S+)$")
  end
  if not given then
    handle:respond({ [":status"] = "401", ["www-authenticate"] = "Bearer" }, none)
    return
  end
  local id, secret = match(given, "^hk_(%w+)_([%w_-]+)$")
  local key = id and keys[id]
  if not key then
    if not id and tokens then
      return
    end
    handle:respond({ [":status"] = "401", ["www-authenticate"] = "Bearer" }, wrong)
    return
  end
  headers:replace("x-headend-credential", "Basic " .. handle:base64Escape(id .. ":" .. secret))
  headers:replace("x-headend-tenant", key.tenant)
  headers:replace("x-headend-roles", key.roles)
  headers:replace("x-headend-top-class", key.class)
  if lacks_role(headers, key.infer, key.operate) then
    -- The routes say so, which come after the secret's check: without it nobody learns what a key allows.
    headers:replace("x-headend-hop", "denied")
    handle:clearRouteCache()
    return
  end
  local asked = headers:get("x-headend-class")
  if rank[asked] and rank[asked] > rank[key.class] then
    headers:replace("x-headend-class", key.class)
    handle:clearRouteCache()
  end
end
