"""One folder per engine holds all SQL that differs between them."""
