"""Alembic's environment and versions; run through ``python -m db.prepare``."""
