"""What clients of OpenAI's audio API send and read."""
