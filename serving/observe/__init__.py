"""What people watch a fleet by: a Grafana dashboard, alerts, and where Prometheus reads the metrics."""
