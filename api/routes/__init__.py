"""What each URL maps to, one file a resource."""
