"""Many recordings at once: found, uploaded, transcribed, and their transcripts written, whatever interrupts it."""
