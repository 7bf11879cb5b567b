"""The Multiplication task."""
