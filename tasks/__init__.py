"""The pipeline: Celery tasks that claim steps, work on them and commit the results."""
