"""Queries on exports, fine-tunings and model versions."""
