"""Evaluate: accuracy over budgets and pass@k from recorded completions."""
