"""Curriculum: stages, token budgets and exit rules; options and pure functions."""
