-- Leads what is too much for this site to the others. Above it stand, written by the front door's
-- configuration: `home` and `away`, names of clusters; `counted`, the clusters whose requests are worked on
-- here; `room`, how many of them this site takes.
function envoy_on_route(handle)
  local busy = 0
  for _, name in ipairs(counted) do
    local cluster = handle:getCluster(name)
    if cluster then
      busy = busy + cluster:numRequests() + cluster:numPendingRequests()
    end
  end
  return busy < room and home or away
end
