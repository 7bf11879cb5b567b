"""Report: one self-contained page from a run folder."""
