"""The commands of `longhand`, one file a topic."""
