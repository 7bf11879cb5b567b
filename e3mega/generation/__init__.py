"""Generation: the process of a vLLM server and its client."""
