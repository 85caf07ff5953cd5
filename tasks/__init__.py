"""The steps of the pipeline, one file each, all of one shape: claim, speech, commit."""
