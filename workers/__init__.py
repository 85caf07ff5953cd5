"""Processes: worker entry points, warm-up and the beat schedule."""
