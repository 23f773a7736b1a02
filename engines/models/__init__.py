"""The networks, and the files with their weights."""
