"""Personal data in transcripts: finding it however it was said, taking it out, and putting it back."""
