"""Measurements, side by side in one run: ``python -m benchmarks``. Nothing here asserts a time."""
