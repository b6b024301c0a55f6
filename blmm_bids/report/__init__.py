"""The HTML page of each node."""
