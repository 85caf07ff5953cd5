"""The steps of a recording, one file each."""
