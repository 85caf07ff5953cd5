"""Decoding, voice activity detection, and cutting into chunks."""
