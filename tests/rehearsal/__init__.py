"""Rehearsals of what operators do to a running system: a restore, and an upgrade. Each has a target of make."""
