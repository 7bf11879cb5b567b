"""Mcore: real Megatron-Core on CUDA and on the CPU."""
