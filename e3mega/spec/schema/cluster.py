"""The ``cluster`` section: the nodes that jobs stand on, and how long to wait for what."""

from e3mega.options import NonNegative, Options, Positive, PositiveFloat


class ClusterOptions(Options):
    """Where a run's jobs stand and how they are watched; changes nothing that a run computes."""

    learner_nodes: Positive = 1
    """Nodes that the learner's ranks are divided over."""
    generation_nodes: NonNegative = 0
    """Nodes of the servers' own; 0 spreads the servers over the learner's nodes."""
    has_loop_node: bool = False
    """Whether the loop has a node of its own, without GPUs; else it shares the learner's first."""
    gpus_per_node: Positive | None = None
    """GPUs of a node, divided between its jobs; null lets every job see them all."""
    interface: str | None = None
    """Network interface between the nodes; null takes the address of the node's name."""
    max_restarts: NonNegative = 0
    """Times that a server is started again, and that the learner and the loop begin again from
    the newest checkpoint, before the run ends."""
    node_deadline_s: PositiveFloat = 600.0
    """Longest wait for all nodes to come up."""
    heartbeat_deadline_s: PositiveFloat = 60.0
    """Longest silence of a node."""
    progress_deadline_s: PositiveFloat = 3600.0
    """Longest time without an event, a finished group or a finished command."""
    leave_deadline_s: PositiveFloat = 300.0
    """Longest wait for the checkpoint of a run that is asked to leave; a scheduler's wall-time
    limit is told this long before."""
