"""Events of jobs: the log in Postgres, the bus in Redis."""
