"""SenseVoice-Small (github.com/FunAudioLLM/SenseVoice) with greedy CTC decoding."""
