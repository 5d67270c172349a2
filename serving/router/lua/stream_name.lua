-- Routes a stream of gRPC by the model that its first message names.
-- The field extraction filter before this one has held the headers until that message had come.
function envoy_on_request(handle)
  local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.grpc_field_extraction")
  local names = found and found["model_name"]
  if names and names[1] and names[1] ~= "" then
    handle:headers():replace("x-headend-model", names[1])
    handle:clearRouteCache()
  end
end
