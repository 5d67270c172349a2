-- What a token that has been verified allows: its tenant must have a name, its roles must hold what is asked,
-- and its class has a limit.
local rank = { batch = 1, interactive = 2, live = 3 }

function envoy_on_request(handle)
  local headers = handle:headers()
  if not headers:get("x-headend-tenant") then
    handle:respond({ [":status"] = "403" }, nameless)
    return
  end
  local roles = " " .. (headers:get("x-headend-roles") or "") .. " "
  local infers, operates = string.find(roles, " infer ", 1, true), string.find(roles, " operate ", 1, true)
  if lacks_role(headers, infers, operates) then
    handle:respond({ [":status"] = "403" }, denied)
    return
  end
  local top = headers:get("x-headend-top-class")
  if not rank[top] then
    top = "interactive"
    headers:replace("x-headend-top-class", top)
  end
  local asked = headers:get("x-headend-class")
  if rank[asked] and rank[asked] > rank[top] then
    headers:replace("x-headend-class", top)
    handle:clearRouteCache()
  end
end
