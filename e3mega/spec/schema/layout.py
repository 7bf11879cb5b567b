"""The ``layout`` section: ranks and devices of each job."""

from enum import Enum

from e3mega.options import NonNegative, Options, Positive


class Device(Enum):
    """What a job computes on."""

    CPU = "cpu"
    """Processor cores; collectives over gloo."""
    GPU = "gpu"
    """NVIDIA GPUs; collectives over NCCL."""


class LearnerLayout(Options):
    """The rank grid of the learner: tp x pp x dp ranks."""

    device: Device = Device.CPU
    """What the ranks compute on."""
    tp: Positive = 1
    """Tensor-parallel ranks."""
    pp: Positive = 1
    """Pipeline-parallel ranks."""
    dp: Positive = 1
    """Data-parallel ranks."""
    threads_per_rank: Positive = 1
    """CPU threads of each rank."""


class GenerationLayout(Options):
    """The generation tier."""

    device: Device = Device.CPU
    """What the servers compute on."""
    num_replicas: Positive = 1
    """Servers."""
    tp: Positive = 1
    """Tensor-parallel ranks of each server."""
    threads_per_replica: Positive = 2
    """CPU threads of each server."""
    kv_cache_bytes: NonNegative = 268_435_456
    """Memory of a CPU server's key-value cache."""


class LayoutOptions(Options):
    """Ranks and devices of each job."""

    learner: LearnerLayout = LearnerLayout()
    """The learner's rank grid."""
    generation: GenerationLayout = GenerationLayout()
    """The generation tier."""
