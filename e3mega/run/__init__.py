"""Run: the supervisor of the jobs of one machine."""
