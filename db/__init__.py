"""All that outlives a process: settings, Postgres models and queries, S3 objects, the event log."""
