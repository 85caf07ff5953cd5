"""The queue of steps in Postgres: claiming, leases, transactions on a job, retries."""
