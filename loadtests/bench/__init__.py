"""Benchmarks: side by side in one run, ratios, with the machine's pressure on record."""
