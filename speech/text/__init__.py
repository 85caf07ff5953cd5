"""Transcripts, words and scripts; without audio or models."""
