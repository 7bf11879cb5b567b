"""Measures models without training: evaluations, gradings, asymmetry; the tier they start."""
