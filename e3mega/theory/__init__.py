"""Theory: the paper's small models of exploration, run on a CPU."""
