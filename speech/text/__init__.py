"""Words and what can be done with them; needs no audio and no model."""
