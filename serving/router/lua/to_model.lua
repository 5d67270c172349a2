-- Routes a request by the name of its model, as the message has it. What cannot be a model's name must not
-- become a header either; no model is called `?`.
local function route_to(handle, name)
  if not name or name == "" then return end
  handle:headers():replace("x-headend-model", string.match(name, "^[%w_.-]+$") or "?")
  handle:clearRouteCache()
end

