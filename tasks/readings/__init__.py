"""Readings of finished transcripts by a language model: summaries, answers, translations."""
