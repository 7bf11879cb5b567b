"""A user's own task, read from one file."""
