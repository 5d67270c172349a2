-- Routes a stream of gRPC by the model that its first message names.
-- The field extraction filter before this one has held the headers until that message had come.
function envoy_on_request(handle)
  local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.grpc_field_extraction")
  local names = found and found["model_name"]
  route_to(handle, names and names[1])
end
