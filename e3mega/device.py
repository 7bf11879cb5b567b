"""What a job computes on: device type, collective backend, and this process's place among ranks."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CPU = "cpu"
GPU = "cuda"
"""torch's name for NVIDIA GPUs."""

_BACKENDS = {CPU: "gloo", GPU: "nccl"}


@dataclass(frozen=True, slots=True)
class ProcessRank:
    """This process's place in its job, as torchrun tells it. Example: ``ProcessRank(1, 4, 1)``."""

    world_rank: int
    world_size: int
    local_rank: int
    """Number of the process on its machine; the GPU it uses."""


def process_rank() -> ProcessRank:
    """Read RANK, WORLD_SIZE and LOCAL_RANK; a process started alone is rank 0 of 1."""
    return ProcessRank(
        world_rank=int(os.environ.get("RANK", "0")),
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
    )


@dataclass(frozen=True, slots=True)
class NodePlace:
    """This process's place among the tasks of a scheduler's job. Example: ``NodePlace(1, 0)``."""

    rank: int
    """Number of the task among its alikes, from 0."""
    restarts: int
    """Times that the scheduler has queued the job again."""


_NODE_RANKS = ("SLURM_PROCID", "PET_NODE_RANK", "SKYPILOT_NODE_RANK", "JOB_COMPLETION_INDEX")
"""How Slurm, Kubeflow, SkyPilot and indexed Kubernetes jobs number their tasks."""


def node_place() -> NodePlace:
    """Read the scheduler's variables; a process started alone is task 0."""
    ranks = [os.environ[name] for name in _NODE_RANKS if name in os.environ]
    return NodePlace(
        rank=int(ranks[0]) if ranks else 0,
        restarts=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
    )


def torch_device_type(is_gpu: bool) -> str:
    """torch's name of the device type."""
    return GPU if is_gpu else CPU


def collective_backend(device_type: str) -> str:
    """The torch.distributed backend of a device type."""
    return _BACKENDS[device_type]


def visible_devices(environment: Mapping[str, str], numbers: Sequence[int]) -> dict[str, str]:
    """The variable that shows a job these of the GPUs that the environment shows; none for all.

    Example: ``visible_devices({"CUDA_VISIBLE_DEVICES": "4,5"}, (1,))`` shows GPU 5.
    """
    if not numbers:
        return {}
    shown = environment.get(_VISIBLE)
    names = shown.split(",") if shown else [str(number) for number in range(max(numbers) + 1)]
    return {_VISIBLE: ",".join(names[number] for number in numbers)}


_VISIBLE = "CUDA_VISIBLE_DEVICES"
