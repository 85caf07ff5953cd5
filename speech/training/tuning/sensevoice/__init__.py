"""Fine-tunes SenseVoice with FunASR's trainer."""
