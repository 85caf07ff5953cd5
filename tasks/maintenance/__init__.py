"""What no single job asks for: healing, retention, sweeping."""
