"""How fast, beside a peer and beside the physical limit, in one run."""
