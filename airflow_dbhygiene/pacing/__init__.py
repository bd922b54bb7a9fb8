"""How fast, and when not at all."""
