"""Webhooks: what is told to whom, and each delivery until it arrived or was given up."""
