"""Decoding in a process without network, files or secrets, and with bounded memory and time."""
