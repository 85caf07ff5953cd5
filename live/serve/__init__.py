"""One stage as a process of its own: ``python -m live.serve asr|vad|denoise|lid`` answers over gRPC."""
