"""Readings by a real language model, a very small one, on this machine's CPU. ``make readings-test``."""
