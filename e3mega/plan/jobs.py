"""The jobs of a run: what each is started with, on which node."""

from e3mega.plan.placement import (
    Placement,
    learner_devices,
    place,
    ranks_per_node,
    server_devices,
)
from e3mega.plan.planfile import JobPlan, Role
from e3mega.plan.stages import learner_segments
from e3mega.plan.topology import num_learner_ranks
from e3mega.spec.schema.curriculum import StageMode
from e3mega.spec.schema.layout import Device, LayoutOptions, LearnerLayout
from e3mega.spec.schema.run import RunOptions

NUM_RANKS, SEGMENT = "@ranks", "@segment"
"""Filled in by ``e3mega.learner.segments``."""


def compile_jobs(options: RunOptions) -> tuple[JobPlan, ...]:
    """All jobs, servers first: they take longest to start; none where no stage samples.

    ``{address}`` in argv stands for the node's own address, ``{learner_host}`` and
    ``{learner_port}`` for where the learner's ranks of several nodes meet.
    """
    placement = place(options.cluster, largest_layout(options))
    has_rl = any(stage.mode is StageMode.RL for stage in options.curriculum.stages.values())
    replicas = range(options.layout.generation.num_replicas if has_rl else 0)
    loop = JobPlan(
        name="loop",
        role=Role.LOOP,
        argv=("{python}", "-m", "e3mega.loop.wiring", "{run_dir}", "{attempt}"),
        env=_environment(1),
        num_devices=0,
        node=placement.loop,
    )
    return (
        *(_server(options, placement, replica) for replica in replicas),
        *_learner(options, placement),
        loop,
    )


def _server(options: RunOptions, placement: Placement, replica: int) -> JobPlan:
    generation = options.layout.generation
    return JobPlan(
        name=f"generation_{replica}",
        role=Role.GENERATION,
        argv=(
            *("{python}", "-m", "e3mega.generation.server"),
            *("{run_dir}", str(replica), "{address}"),
        ),
        env=server_environment(generation.threads_per_replica),
        num_devices=generation.tp if generation.device is Device.GPU else 0,
        node=placement.servers[replica],
        devices=server_devices(options.cluster, largest_layout(options), placement, replica),
    )


def _learner(options: RunOptions, placement: Placement) -> tuple[JobPlan, ...]:
    """One torchrun for each of the learner's nodes; the first is called ``learner``.

    Where stages differ in the grid, ``e3mega.learner.segments`` starts one torchrun after the
    other, with ``NUM_RANKS`` and ``SEGMENT`` in its arguments filled in.
    """
    layout, nodes = largest_layout(options), placement.learner
    num_ranks = ranks_per_node(options.cluster, layout)
    env = learner_environment(layout.learner)
    if placement.num_nodes == 1:
        env |= {"GLOO_SOCKET_IFNAME": "lo"}
    elif options.cluster.interface is not None:
        env |= {
            "GLOO_SOCKET_IFNAME": options.cluster.interface,
            "NCCL_SOCKET_IFNAME": options.cluster.interface,
        }
    has_segments = learner_segments(options)[-1] > 0
    before = ("{python}", "-m", "e3mega.learner.segments", "{run_dir}", "{attempt}")
    return tuple(
        JobPlan(
            name="learner" if part == 0 else f"learner_{part}",
            role=Role.LEARNER,
            argv=(
                *(before if has_segments else ()),
                *("{python}", "-m", "torch.distributed.run"),
                f"--nnodes={len(nodes)}",
                f"--nproc-per-node={NUM_RANKS if has_segments else num_ranks}",
                "--max-restarts=0",
                *_meeting(part, len(nodes)),
                *("-m", "e3mega.learner.worker", "{run_dir}", "{attempt}"),
                SEGMENT if has_segments else "0",
            ),
            env=env,
            num_devices=num_ranks if layout.learner.device is Device.GPU else 0,
            node=node,
            devices=learner_devices(options.cluster, layout),
        )
        for part, node in enumerate(nodes)
    )


def largest_layout(options: RunOptions) -> LayoutOptions:
    """The layout with the learner's grid of the most ranks of any stage: what must have a place."""
    grids = [options.curriculum.stages[name].layout.learner for name in options.curriculum.order]
    return options.layout.model_copy(update={"learner": max(grids, key=num_learner_ranks)})


def learner_environment(grid: LearnerLayout) -> dict[str, str]:
    """What the ranks of a grid are started with, wherever they stand."""
    extra = _DETERMINISTIC_ENVIRONMENT if grid.is_deterministic else {}
    return _environment(grid.threads_per_rank) | extra


def _meeting(part: int, num_parts: int) -> tuple[str, ...]:
    """How the ranks find each other; on one node they need nobody else."""
    if num_parts == 1:
        return (
            "--rdzv-backend=c10d",
            "--rdzv-endpoint=127.0.0.1:0",
            "--local-addr=127.0.0.1",
        )
    return (
        "--rdzv-backend=static",
        f"--node-rank={part}",
        "--master-addr={learner_host}",
        "--master-port={learner_port}",
    )


def _environment(num_threads: int) -> dict[str, str]:
    """What every job is started with: its threads, and no network or telemetry of libraries."""
    return {
        "OMP_NUM_THREADS": str(num_threads),
        "MKL_NUM_THREADS": str(num_threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


def server_environment(num_threads: int) -> dict[str, str]:
    """What a generation server is started with."""
    return _environment(num_threads) | _SERVER_ENVIRONMENT


_DETERMINISTIC_ENVIRONMENT = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "NVTE_ALLOW_NONDETERMINISTIC_ALGO": "0",
    # Tree reductions may be ordered by arrival.
    "NCCL_ALGO": "Ring",
}
"""What torch, Transformer Engine and NCCL ask for to give the same bits twice."""

_SERVER_ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # Automatic binding pins the worker to core 0.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # Log-probabilities then do not depend on the other sequences of a batch, on two threads too.
    "VLLM_CPU_ATTN_SPLIT_KV": "0",
    # A server that closes idle connections may do so while a request is on its way, and the run
    # would end with "Server disconnected": the client closes them long before.
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "600",
}
"""Development routes carry the weight transfer."""
