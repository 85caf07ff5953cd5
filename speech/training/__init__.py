"""Training data out of transcripts, and fine-tuned models out of training data."""
