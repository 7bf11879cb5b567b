"""Checkpoint: manifests, sharded Megatron checkpoints, Hugging Face folders."""
