"""Full-text search over all transcripts of a tenant."""
