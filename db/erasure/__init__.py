"""What is removed, when, and the certificates of it."""
