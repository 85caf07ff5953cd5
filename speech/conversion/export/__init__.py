"""Exports to ONNX and ggml. Needs the ``torch`` extra; run by ``longhand models export`` and by ``pull``."""
