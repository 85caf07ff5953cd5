"""Converts models to ONNX and ggml, and compares the results with the originals."""
