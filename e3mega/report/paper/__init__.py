"""The figures of arXiv 2506.09026, redrawn from runs."""
