"""Plan: what will happen, compiled from a spec without GPU, network or torch."""
