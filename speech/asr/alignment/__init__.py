"""Draft and refined words compared: which to use, with what confidence, and how to divide them into segments."""
