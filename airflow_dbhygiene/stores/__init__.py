"""Where archives go."""
