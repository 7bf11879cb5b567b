"""Programs that compute with other projects' code, each in an environment of its own."""
