"""Delivering webhooks: signed requests to whoever asked for them, tried again for a day."""
