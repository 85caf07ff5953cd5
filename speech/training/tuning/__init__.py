"""Fine-tunes SenseVoice or Whisper. Needs the environment with PyTorch."""
