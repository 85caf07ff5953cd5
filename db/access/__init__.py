"""Queries on keys, tenants, usage and the audit log."""
