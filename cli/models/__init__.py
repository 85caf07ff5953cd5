"""Fetching models, and converting those that can only be had for PyTorch."""
