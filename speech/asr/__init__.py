"""Speech to text: the engines, the languages, and the alignment of draft and refined words."""
