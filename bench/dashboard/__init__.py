"""What the dashboard *Recovery* shows of a drill on a real cluster, asked of a real Prometheus and drawn."""
