"""Who speaks when: diarization, voiceprints, clustering, labels."""
