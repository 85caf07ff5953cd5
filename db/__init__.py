"""Settings, Postgres models and queries, S3 objects, and the event bus."""
