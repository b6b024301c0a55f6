"""The output dataset: maps, sidecars, tables, and the working directory of a run."""
