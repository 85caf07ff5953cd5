"""Whisper through CTranslate2 and faster-whisper."""
