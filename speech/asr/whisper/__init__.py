"""Whisper through CTranslate2: batches, seeking, temperature fallback, language changes, word times."""
