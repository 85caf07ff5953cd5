"""Decoding, voice activity detection, and chunking."""
