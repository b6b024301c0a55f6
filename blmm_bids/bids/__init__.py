"""BIDS datasets: from files and tables to one observation table, and from entities to file names."""
