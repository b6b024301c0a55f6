"""Volumes: their grid, their masks, their values, and how the work on them is cut."""
