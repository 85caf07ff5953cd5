"""Prometheus and Grafana beside a stack on one machine, with the same rules and dashboard as anywhere else."""
