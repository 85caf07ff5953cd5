"""Fine-tunes SenseVoice with FunASR's trainer. Needs the ``torch`` extra."""
