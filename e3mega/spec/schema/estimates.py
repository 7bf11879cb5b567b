"""The ``estimates`` section: what the planner assumes; it changes nothing that a run computes."""

from enum import Enum

from e3mega.options import Fraction, Options, PositiveFloat


class Gpu(Enum):
    """A row of the planner's device table."""

    A100 = "a100"
    """NVIDIA A100 SXM, 80 GB."""
    H100 = "h100"
    """NVIDIA H100 SXM, 80 GB."""
    H200 = "h200"
    """NVIDIA H200 SXM, 141 GB."""
    B200 = "b200"
    """NVIDIA B200, 180 GB."""


class EstimateOptions(Options):
    """What the planner assumes of devices and of completions.

    ``tools/measure_estimates.py RUN`` prints this section as a finished run measured it.
    """

    gpu: Gpu = Gpu.H100
    """The GPU of jobs whose layout says gpu."""
    completion_frac: Fraction = 0.5
    """Mean length of a completion as a share of its budget."""
    learner_frac: Fraction = 0.35
    """Share of a device's peak operations that the learner's passes reach."""
    prefill_frac: Fraction = 0.4
    """Share of a device's peak operations that servers reach."""
    memory_frac: Fraction = 0.6
    """Share of a device's memory bandwidth that decoding reaches."""
    link_frac: Fraction = 0.6
    """Share of a link's bandwidth that collectives and weight syncs reach."""
    overhead_factor: PositiveFloat = 1.0
    """Factor on the device table's fixed seconds of a decoding step."""
    reserved_frac: Fraction = 0.06
    """Share of a GPU's memory that the driver, NCCL and fragmentation take."""
