"""Signatures: what vLLM's server and nemo-run's classes take, as ``tools/write_signatures.py``
found it in the installed packages."""
