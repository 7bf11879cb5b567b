"""Families: geometry and the mapping table between HF and Megatron names; no torch."""
