"""The order of the stages, for each of the three commands."""
