"""Which node each job of a run stands on, and which of its GPUs it uses."""

from dataclasses import dataclass

from e3mega.plan.topology import num_learner_ranks
from e3mega.spec.schema.cluster import ClusterOptions
from e3mega.spec.schema.layout import Device, LayoutOptions


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Consecutive nodes that are alike. Example: ``NodeGroup("learner", 0, 4, 8)``."""

    name: str
    first_node: int
    num_nodes: int
    num_gpus: int
    """GPUs that the jobs of one node use, at most."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Nodes are numbered from 0: the loop's own, then the learner's, then the servers' own.

    Example: ``Placement(0, (0, 1), (0, 1), groups)``: two nodes that share everything.
    """

    loop: int
    learner: tuple[int, ...]
    """Nodes of the learner's ranks, in their order."""
    servers: tuple[int, ...]
    """Node of each server, by replica."""
    groups: tuple[NodeGroup, ...]

    @property
    def num_nodes(self) -> int:
        """Nodes of the run."""
        return sum(group.num_nodes for group in self.groups)


def place(cluster: ClusterOptions, layout: LayoutOptions) -> Placement:
    """The nodes of a run's jobs; servers are dealt out to their nodes in turn."""
    first = int(cluster.has_loop_node)
    learner = tuple(range(first, first + cluster.learner_nodes))
    behind = first + cluster.learner_nodes
    own = tuple(range(behind, behind + cluster.generation_nodes))
    hosts = own or learner
    servers = tuple(hosts[r % len(hosts)] for r in range(layout.generation.num_replicas))
    learner_gpus = ranks_per_node(cluster, layout) if layout.learner.device is Device.GPU else 0
    per_host = max(servers.count(host) for host in hosts)
    server_gpus = per_host * layout.generation.tp if layout.generation.device is Device.GPU else 0
    groups = [NodeGroup("loop", 0, 1, 0)] if cluster.has_loop_node else []
    shared = 0 if own else server_gpus
    groups.append(
        NodeGroup("learner" if own else "shared", first, len(learner), learner_gpus + shared)
    )
    if own:
        groups.append(NodeGroup("generation", behind, len(own), server_gpus))
    return Placement(0, learner, servers, tuple(groups))


def ranks_per_node(cluster: ClusterOptions, layout: LayoutOptions) -> int:
    """Ranks of the learner on each of its nodes; the nodes divide them evenly."""
    return num_learner_ranks(layout.learner) // cluster.learner_nodes


def learner_devices(cluster: ClusterOptions, layout: LayoutOptions) -> tuple[int, ...]:
    """The GPUs of its node that the learner's ranks use; empty when they are not divided."""
    if cluster.gpus_per_node is None or layout.learner.device is not Device.GPU:
        return ()
    return tuple(range(ranks_per_node(cluster, layout)))


def server_devices(
    cluster: ClusterOptions, layout: LayoutOptions, placement: Placement, replica: int
) -> tuple[int, ...]:
    """The GPUs of its node that a server uses, behind the learner's; empty when not divided."""
    generation = layout.generation
    if cluster.gpus_per_node is None or generation.device is not Device.GPU:
        return ()
    node = placement.servers[replica]
    taken = len(learner_devices(cluster, layout)) if node in placement.learner else 0
    before = placement.servers[:replica].count(node) * generation.tp
    return tuple(range(taken + before, taken + before + generation.tp))
