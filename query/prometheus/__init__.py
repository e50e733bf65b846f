"""The HTTP API of Prometheus over streams: a subset of PromQL. Its routes are in services/prometheus.py."""
