"""The parity gates: every export is compared with its PyTorch original. Needs the ``torch`` extra."""
