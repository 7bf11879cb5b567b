"""The ``layout`` section: ranks and devices of each job."""

from enum import Enum

from e3mega.options import NonNegative, Options, Positive


class Device(Enum):
    """What a job computes on."""

    CPU = "cpu"
    """Processor cores; collectives over gloo."""
    GPU = "gpu"
    """NVIDIA GPUs; collectives over NCCL."""


class Recompute(Enum):
    """What a backward pass computes again instead of keeping it from the forward pass."""

    NONE = "none"
    """Nothing: most memory, least time."""
    ATTENTION = "attention"
    """The attended values of every layer."""
    FULL = "full"
    """Every layer from its input: least memory, a third more time."""


class LayerImplementation(Enum):
    """Whose layers the learner is built of."""

    AUTO = "auto"
    """Transformer Engine's on GPUs where it is installed, else Megatron-Core's own."""
    LOCAL = "local"
    """Megatron-Core's own, with attention on torch's scaled-dot-product attention."""
    TRANSFORMER_ENGINE = "transformer_engine"
    """Transformer Engine's; the learner stops at its start where it is not installed."""


class Fp8(Enum):
    """Scaling of the 8-bit floats that matrix products of Transformer Engine's layers use."""

    OFF = "off"
    """Matrix products are in the model's precision."""
    DELAYED = "delayed"
    """One scale a tensor, from the steps before."""
    TENSORWISE = "tensorwise"
    """One scale a tensor, from the tensor itself."""
    BLOCKWISE = "blockwise"
    """One scale a block of a tensor."""
    MXFP8 = "mxfp8"
    """One scale for each 32 values; GPUs from Blackwell on."""


class LearnerLayout(Options):
    """The rank grid of the learner, tp x cp x dp x pp ranks, and how they divide the work.

    Within a pipeline stage the same ranks are also expert_tp x ep x the rest for the experts.
    """

    device: Device = Device.CPU
    """What the ranks compute on."""
    tp: Positive = 1
    """Tensor-parallel ranks: they divide every matrix."""
    cp: Positive = 1
    """Context-parallel ranks: they divide every sequence."""
    dp: Positive = 1
    """Data-parallel ranks: they divide the bins of a batch and the optimizer's state."""
    pp: Positive = 1
    """Pipeline-parallel ranks: they divide the layers."""
    ep: Positive = 1
    """Expert-parallel ranks, of those of one pipeline stage: they divide the experts."""
    expert_tp: Positive = 1
    """Tensor-parallel ranks of each expert, of those of one pipeline stage."""
    sequence_parallel: bool = False
    """Whether tensor-parallel ranks divide the tokens between the matrices too."""
    chunks_per_stage: Positive = 1
    """Parts of the model on each pipeline rank; with more than one the stages are interleaved."""
    layers_per_chunk: tuple[Positive, ...] | None = None
    """Layers of each of the pp * chunks_per_stage parts, in the order of the model; null divides
    them evenly."""
    recompute: Recompute = Recompute.NONE
    """What a backward pass computes again instead of keeping it."""
    overlap_grad_reduce: bool = False
    """Whether gradients are reduced over data-parallel ranks while the backward pass runs."""
    overlap_param_gather: bool = False
    """Whether updated parameters are gathered while the next forward pass runs."""
    layers: LayerImplementation = LayerImplementation.AUTO
    """Whose layers the learner is built of."""
    fp8: Fp8 = Fp8.OFF
    """8-bit matrix products; needs Transformer Engine's layers."""
    threads_per_rank: Positive = 1
    """CPU threads of each rank."""
    is_deterministic: bool = False
    """Whether two runs on one machine type give the same bits; slower on GPUs."""


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
