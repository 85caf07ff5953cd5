"""Voice activity detectors, and the segmentation network that one of them shares with diarization."""
