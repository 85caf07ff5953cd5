"""Making ONNX and ggml models from their originals, and comparing the two."""
