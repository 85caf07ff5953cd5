"""Exports of training data, fine-tunings, and the model versions that they make."""
