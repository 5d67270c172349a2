"""The site's agent: reads telemetry, exchanges it with other sites, and puts the plan before Envoy."""
