"""Rules that tie keys of the ``model`` section together, one small function each."""

from collections.abc import Callable, Iterator

from e3mega.families.registry import form_of
from e3mega.spec.findings import Finding
from e3mega.spec.layout_rules import divisors
from e3mega.spec.origins import Key
from e3mega.spec.schema.run import RunOptions

_EXPERTS: Key = ("model", "experts")


def kv_heads_divide_the_heads(options: RunOptions) -> Iterator[Finding]:
    """Each key-value head serves equally many query heads."""
    if options.model.num_heads % options.model.num_kv_heads:
        fix = f"use {divisors(options.model.num_heads)}"
        cites = (("model", "num_heads"),)
        yield Finding(("model", "num_kv_heads"), "a divisor of {0}", fix, cites)


def head_dim_is_even(options: RunOptions) -> Iterator[Finding]:
    """Rotary embeddings turn pairs."""
    if options.model.head_dim % 2:
        fix = f"use {options.model.head_dim + 1}"
        yield Finding(("model", "head_dim"), "an even number, for rotary embeddings", fix)


def experts_are_the_familys(options: RunOptions) -> Iterator[Finding]:
    """A model has experts if and only if its family does."""
    model, cites = options.model, (("model", "family"),)
    if form_of(model).has_experts and model.experts is None:
        fix = "state the experts, or use the dense family"
        yield Finding(_EXPERTS, "a mapping for {0}", fix, cites)
    if not form_of(model).has_experts and model.experts is not None:
        yield Finding(_EXPERTS, "null for {0}, which is dense", "remove it", cites)


def router_picks_experts_that_are_there(options: RunOptions) -> Iterator[Finding]:
    """A token is given to at most all experts."""
    experts = options.model.experts
    if experts is not None and experts.experts_per_token > experts.num_experts:
        fix = f"use {experts.num_experts} or less"
        cites = ((*_EXPERTS, "num_experts"),)
        yield Finding((*_EXPERTS, "experts_per_token"), "at most {0}", fix, cites)


def dense_layers_are_layers(options: RunOptions) -> Iterator[Finding]:
    """The layers without experts are layers of the model, and not all of them."""
    experts, num_layers = options.model.experts, options.model.num_layers
    if experts is None:
        return
    layers = set(experts.dense_layers)
    if len(layers) != len(experts.dense_layers) or max(layers, default=0) >= num_layers:
        need = "layers from 0 below {0}, each once"
        yield Finding((*_EXPERTS, "dense_layers"), need, "correct it", (("model", "num_layers"),))
    elif len(layers) == num_layers:
        fix = "use the dense family"
        yield Finding((*_EXPERTS, "dense_layers"), "at least one layer with experts", fix)


MODEL_RULES: tuple[Callable[[RunOptions], Iterator[Finding]], ...] = (
    kv_heads_divide_the_heads,
    head_dim_is_even,
    experts_are_the_familys,
    router_picks_experts_that_are_there,
    dense_layers_are_layers,
)
