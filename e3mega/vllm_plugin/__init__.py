"""Vllm_plugin: what runs inside vLLM."""
