"""Learner: the optimizer step on Megatron-Core."""
