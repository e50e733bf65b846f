"""Load generators and benches. Each runs alone: ``python -m benchmarks.NAME``."""
