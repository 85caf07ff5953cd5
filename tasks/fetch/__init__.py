"""Fetching recordings by their address: from the web, from S3, from a folder."""
