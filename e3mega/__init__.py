"""e3mega trains reasoning models by reinforcement learning with the e3 recipe."""

__version__ = "0.1.0"
