"""What a proxy costs: `python -m tests.benchmark.relay`. See tests/benchmark/README.md."""
