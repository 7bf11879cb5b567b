"""Engines: weight transfer into vLLM, both ends."""
