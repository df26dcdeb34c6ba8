"""The dashboards for Grafana, as descriptions that their JSON is made from: `python -m dashboards`."""
