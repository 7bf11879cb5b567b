"""Tasks: options, prompt source, verifier and difficulty, one file a task."""
