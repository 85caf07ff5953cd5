"""Receiving files: multipart bodies streamed to S3."""
