"""The stages of a live session in this process, on the engines of `speech`."""
