"""Edge values of every type, by engine, and tables made at random of them."""
