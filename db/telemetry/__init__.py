"""What a process tells of itself: metrics for Prometheus, and traces by OpenTelemetry."""
