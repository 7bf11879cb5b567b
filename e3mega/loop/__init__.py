"""Loop: the one loop of a run."""
