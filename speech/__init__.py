"""Audio and words. Knows no job, database or network, and can be imported alone."""
