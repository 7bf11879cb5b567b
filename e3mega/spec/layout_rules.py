"""Rules that tie the rank grids of ``layout`` to the model, one small function each."""

from collections.abc import Callable, Iterator

from e3mega.families.geometry import ExpertOptions, Precision
from e3mega.spec.findings import Finding
from e3mega.spec.origins import Key
from e3mega.spec.schema.layout import Device, Fp8, LayerImplementation, LearnerLayout
from e3mega.spec.schema.run import RunOptions

_LEARNER: Key = ("layout", "learner")
_EXPERTS: Key = ("model", "experts")


def divisors(*numbers: int) -> str:
    """The common divisors as a person reads them. Example: ``divisors(4, 6) == "1 or 2"``."""
    found = [str(n) for n in range(1, min(numbers) + 1) if all(each % n == 0 for each in numbers)]
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} or {found[-1]}"


def _key(name: str) -> Key:
    return (*_LEARNER, name)


def learner_tp_divides_the_model(options: RunOptions) -> Iterator[Finding]:
    """Heads, key-value heads and the dense feed-forward width are divided among tp ranks."""
    names = ("num_heads", "num_kv_heads", "ffn_size")
    sizes = {name: getattr(options.model, name) for name in names}
    cites = tuple(
        ("model", name) for name, size in sizes.items() if size % options.layout.learner.tp
    )
    if cites:
        need = "a divisor of " + " and ".join(f"{{{index}}}" for index in range(len(cites)))
        yield Finding(_key("tp"), need, f"use {divisors(*sizes.values())}", cites)


def stages_divide_the_layers(options: RunOptions) -> Iterator[Finding]:
    """Every chunk of every pipeline stage holds equally many layers, unless they are listed."""
    layout, num_layers = options.layout.learner, options.model.num_layers
    if (
        layout.layers_per_chunk is not None
        or num_layers % (layout.pp * layout.chunks_per_stage) == 0
    ):
        return
    cites: tuple[Key, ...] = (("model", "num_layers"),)
    fix = f"use {divisors(num_layers)}, or list layers_per_chunk"
    if layout.chunks_per_stage == 1:
        yield Finding(_key("pp"), "a divisor of {0}", fix, cites)
    else:
        need = "with {1} a divisor of {0}"
        yield Finding(_key("chunks_per_stage"), need, fix, (*cites, _key("pp")))


def listed_chunks_hold_the_layers(options: RunOptions) -> Iterator[Finding]:
    """``layers_per_chunk`` names every chunk once, and every layer once."""
    layout, num_layers = options.layout.learner, options.model.num_layers
    sizes, num_chunks = layout.layers_per_chunk, layout.pp * layout.chunks_per_stage
    if sizes is None:
        return
    key = _key("layers_per_chunk")
    if len(sizes) != num_chunks:
        cites = (_key("pp"), _key("chunks_per_stage"))
        fix = f"list {num_chunks} numbers"
        yield Finding(key, "one number for each chunk of {0} with {1}", fix, cites)
    elif sum(sizes) != num_layers:
        fix = f"the numbers sum to {sum(sizes)}; make it {num_layers}"
        yield Finding(key, "numbers that sum to {0}", fix, (("model", "num_layers"),))


def interleaving_needs_stages(options: RunOptions) -> Iterator[Finding]:
    """Several chunks a rank take turns only where there are several pipeline ranks."""
    layout = options.layout.learner
    if layout.chunks_per_stage > 1 and layout.pp == 1:
        need = "1 for {0}, which has nothing to interleave"
        yield Finding(_key("chunks_per_stage"), need, "use 1, or more pp", (_key("pp"),))


def sequence_parallel_needs_tp(options: RunOptions) -> Iterator[Finding]:
    """Tokens are divided among tensor-parallel ranks, of which there are several."""
    layout = options.layout.learner
    if layout.sequence_parallel and layout.tp == 1:
        fix = "use false, or more tp"
        yield Finding(_key("sequence_parallel"), "false for {0}", fix, (_key("tp"),))


def experts_need_sequence_parallel(options: RunOptions) -> Iterator[Finding]:
    """Tensor-parallel ranks give different tokens to the experts."""
    layout = options.layout.learner
    if options.model.experts is not None and layout.tp > 1 and not layout.sequence_parallel:
        need = "true for a model with experts at {0}"
        yield Finding(_key("sequence_parallel"), need, "set it to true", (_key("tp"),))


def expert_grid_fits_the_stage(options: RunOptions) -> Iterator[Finding]:
    """``expert_tp * ep`` divides the ranks of a pipeline stage."""
    layout = options.layout.learner
    num_ranks = layout.tp * layout.cp * layout.dp
    if num_ranks % (layout.expert_tp * layout.ep):
        need = f"with {{0}} a divisor of a stage's {num_ranks} ranks (tp * cp * dp)"
        fix = f"use values whose product is {divisors(num_ranks)}"
        yield Finding(_key("ep"), need, fix, (_key("expert_tp"),))


def experts_are_divided(options: RunOptions) -> Iterator[Finding]:
    """``ep`` divides the experts, and ``expert_tp`` the width of each."""
    layout, experts = options.layout.learner, options.model.experts
    if experts is None:
        for name in ("ep", "expert_tp"):
            if getattr(layout, name) > 1:
                yield Finding(_key(name), "1 for a model without experts", "use 1")
        return
    yield from _divided(layout, experts, "ep", "num_experts")
    yield from _divided(layout, experts, "expert_tp", "ffn_size")


def _divided(
    layout: LearnerLayout, experts: ExpertOptions, axis: str, name: str
) -> Iterator[Finding]:
    size = getattr(experts, name)
    if size % getattr(layout, axis):
        cites = ((*_EXPERTS, name),)
        yield Finding(_key(axis), "a divisor of {0}", f"use {divisors(size)}", cites)


def cpu_has_no_transformer_engine(options: RunOptions) -> Iterator[Finding]:
    """Transformer Engine's layers and 8-bit products run on GPUs only."""
    layout = options.layout.learner
    if layout.device is not Device.CPU:
        return
    cites = (_key("device"),)
    if layout.layers is LayerImplementation.TRANSFORMER_ENGINE:
        yield Finding(_key("layers"), "auto or local for {0}", "use auto", cites)
    if layout.fp8 is not Fp8.OFF:
        yield Finding(_key("fp8"), "off for {0}", "use off", cites)


def fp8_is_transformer_engines(options: RunOptions) -> Iterator[Finding]:
    """8-bit products are made by Transformer Engine's layers, beside bfloat16."""
    layout = options.layout.learner
    if layout.fp8 is Fp8.OFF or layout.device is Device.CPU:
        return
    if layout.layers is not LayerImplementation.TRANSFORMER_ENGINE:
        fix = "set layers: transformer_engine"
        yield Finding(_key("fp8"), "off for {0}", fix, (_key("layers"),))
    if options.model.precision is not Precision.BFLOAT16:
        fix = "set model.precision: bfloat16"
        yield Finding(_key("fp8"), "off for {0}", fix, (("model", "precision"),))


def param_gather_follows_grad_reduce(options: RunOptions) -> Iterator[Finding]:
    """Megatron-Core overlaps the gather only where it overlaps the reduction."""
    layout = options.layout.learner
    if layout.overlap_param_gather and not layout.overlap_grad_reduce:
        need = "false for {0}"
        fix = "set overlap_grad_reduce: true too"
        yield Finding(_key("overlap_param_gather"), need, fix, (_key("overlap_grad_reduce"),))


def server_tp_divides_the_heads(options: RunOptions) -> Iterator[Finding]:
    """A server's ranks divide the query heads and the feed-forward width."""
    for name in ("num_heads", "ffn_size"):
        if getattr(options.model, name) % options.layout.generation.tp:
            fix = f"use {divisors(options.model.num_heads)}"
            cites = (("model", name),)
            yield Finding(("layout", "generation", "tp"), "a divisor of {0}", fix, cites)


def cpu_computes_in_float32(options: RunOptions) -> Iterator[Finding]:
    """Training on the CPU is in single precision."""
    for job in ("learner", "generation"):
        layout = getattr(options.layout, job)
        if layout.device is Device.CPU and options.model.precision is not Precision.FLOAT32:
            cites = (("layout", job, "device"),)
            fix = "set model.precision: float32, or a gpu layout"
            yield Finding(("model", "precision"), "float32 for {0}", fix, cites)


LAYOUT_RULES: tuple[Callable[[RunOptions], Iterator[Finding]], ...] = (
    learner_tp_divides_the_model,
    stages_divide_the_layers,
    listed_chunks_hold_the_layers,
    interleaving_needs_stages,
    sequence_parallel_needs_tp,
    experts_need_sequence_parallel,
    expert_grid_fits_the_stage,
    experts_are_divided,
    cpu_has_no_transformer_engine,
    fp8_is_transformer_engines,
    param_gather_follows_grad_reduce,
    server_tp_divides_the_heads,
    cpu_computes_in_float32,
)
