"""Mathematics from data sets, and the grading of its answers."""
