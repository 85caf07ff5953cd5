"""Worker processes: entry points, warm-up, watchdog and shutdown."""
