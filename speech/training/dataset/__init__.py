"""Training data out of transcripts, without any input or output: what may be used, and how it is written."""
