"""The night's work: exports of training data, fine-tunings, and the model versions they make."""
