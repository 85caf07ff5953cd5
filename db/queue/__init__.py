"""The queue of steps in Postgres: claims, leases, transactions on a job, retries of a job."""
