"""Training data from transcripts, without input or output: selection, splits and file formats."""
