"""Rules of the ``cluster`` section: its nodes can hold what the layout asks for."""

from collections.abc import Callable, Iterator

from e3mega.spec.findings import Finding
from e3mega.spec.schema.layout import Device
from e3mega.spec.schema.run import RunOptions


def nodes_divide_the_learner(options: RunOptions) -> Iterator[Finding]:
    """The learner's nodes hold the same number of ranks, in the grid of every stage."""
    nodes = options.cluster.learner_nodes
    for where, ranks in _ranks(options).items():
        if ranks % nodes:
            divisors = ", ".join(str(n) for n in range(1, ranks + 1) if ranks % n == 0)
            need = f"a divisor of the learner's {ranks} ranks (layout.learner){where}"
            yield Finding(("cluster", "learner_nodes"), need, f"use one of {divisors}")


def own_nodes_have_servers(options: RunOptions) -> Iterator[Finding]:
    """There are at least as many servers as nodes for them."""
    nodes, servers = options.cluster.generation_nodes, options.layout.generation.num_replicas
    if nodes > servers:
        need = f"at most layout.generation.num_replicas = {servers}"
        yield Finding(("cluster", "generation_nodes"), need, f"use {servers}, or more replicas")


def gpus_suffice(options: RunOptions) -> Iterator[Finding]:
    """The jobs of a node use no more GPUs than it has."""
    cluster, layout = options.cluster, options.layout
    if cluster.gpus_per_node is None:
        return
    learner, generation = layout.learner, layout.generation
    ranks = max(_ranks(options).values()) // cluster.learner_nodes
    hosts = cluster.generation_nodes or cluster.learner_nodes
    servers = -(-generation.num_replicas // hosts) * generation.tp
    learner_gpus = ranks if learner.device is Device.GPU else 0
    server_gpus = servers if generation.device is Device.GPU else 0
    together = cluster.generation_nodes == 0
    used = learner_gpus + server_gpus if together else max(learner_gpus, server_gpus)
    if used > cluster.gpus_per_node:
        need = f"at least {used}: {learner_gpus} for the learner, {server_gpus} for servers a node"
        fix = "use more cluster.learner_nodes or generation_nodes, or fewer ranks or replicas"
        yield Finding(("cluster", "gpus_per_node"), need, fix)


def _ranks(options: RunOptions) -> dict[str, int]:
    """The learner's ranks, and under the words that say so those of a stage's own grid."""
    grids = {"": options.layout.learner} | {
        f" in stage {name}": stage.layout.learner
        for name, stage in options.curriculum.stages.items()
        if stage.layout.learner != options.layout.learner
    }
    return {where: grid.tp * grid.cp * grid.dp * grid.pp for where, grid in grids.items()}


CLUSTER_RULES: tuple[Callable[[RunOptions], Iterator[Finding]], ...] = (
    nodes_divide_the_learner,
    own_nodes_have_servers,
    gpus_suffice,
)
