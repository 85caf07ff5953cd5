"""The catalogue of models, and how a model is opened and run."""
