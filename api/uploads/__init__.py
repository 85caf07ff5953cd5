"""Receiving files: forms streamed to S3, uploads that come piece by piece, and jobs that name theirs."""
