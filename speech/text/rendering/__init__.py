"""Transcripts as text for readers, players, spreadsheets and tools of speech science."""
