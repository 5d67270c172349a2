"""Load: campaigns and benchmarks."""
