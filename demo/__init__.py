"""A run of the app on a dataset that it makes itself, so that every estimate has a truth beside it."""
