"""What the traffic of a server notices of a purge."""
