"""Periodic upkeep: healing, retention, sweeping."""
