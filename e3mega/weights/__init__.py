"""Weights: HF-named tensors streamed from shards, transfer engines and the canary."""
