"""Objects in S3: recordings, chunks, transcripts."""
