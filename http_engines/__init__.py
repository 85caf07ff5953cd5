"""Models that are servers of their own, reached over HTTP, behind the Protocols of ``speech.engines``."""
