"""The front door: Envoy, derived from the fleet."""
