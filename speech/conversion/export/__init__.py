"""From PyTorch originals to ONNX. Needs the ``torch`` extra; run by ``longhand models export`` and by ``pull``."""
