"""Fine-tunes Whisper in PyTorch, from CTranslate2's files and back to them."""
