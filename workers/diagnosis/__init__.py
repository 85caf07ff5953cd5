"""What a worker would find on this machine: whether its servers, models and settings are fit to serve."""
