"""What loads a model: each engine is a small class behind a Protocol of :mod:`speech.engines.base`."""
