"""Rules that tie several keys of a run together, one small function each."""

import re
from collections.abc import Callable, Iterator

from e3mega.errors import Problem
from e3mega.families.geometry import Precision
from e3mega.spec.findings import Finding, as_problem
from e3mega.spec.origins import Composition, Key
from e3mega.spec.schema.layout import Device
from e3mega.spec.schema.run import RunOptions
from e3mega.spec.stage_rules import stage_findings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def check_rules(
    options: RunOptions, composition: Composition, report: Callable[[Problem], None]
) -> None:
    """Report every rule that the options break."""
    for rule in _RULES:
        for finding in rule(options):
            report(as_problem(finding, options, composition))
    for finding in stage_findings(options):
        report(as_problem(finding, options, composition))


def divisors(*numbers: int) -> str:
    """The common divisors as a person reads them. Example: ``divisors(4, 6) == "1 or 2"``."""
    found = [str(n) for n in range(1, min(numbers) + 1) if all(each % n == 0 for each in numbers)]
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} or {found[-1]}"


def names_can_be_folders(options: RunOptions) -> Iterator[Finding]:
    """The names of run and stages are names of folders."""
    named: list[tuple[Key, str]] = [(("name",), options.name)]
    named += [(("curriculum", "stages", name), name) for name in options.curriculum.stages]
    for key, name in named:
        if not _NAME.fullmatch(name):
            need = "a name of letters, digits, - and _"
            yield Finding(key, need, f"rename {name!r}")


def order_names_each_stage_once(options: RunOptions) -> Iterator[Finding]:
    """``curriculum.order`` holds every stage exactly once."""
    order, stages = options.curriculum.order, options.curriculum.stages
    if len(order) != len(set(order)) or set(order) != set(stages) or not order:
        need = f"each of the stages {', '.join(stages) or '(there are none)'} once"
        yield Finding(("curriculum", "order"), need, "name every stage once, in order")


def learner_tp_divides_the_model(options: RunOptions) -> Iterator[Finding]:
    """Heads, key-value heads, feed-forward width and vocabulary are divided among tp ranks."""
    names = ("num_heads", "num_kv_heads", "ffn_size", "vocab_size")
    sizes = {name: getattr(options.model, name) for name in names}
    cites = tuple(
        ("model", name) for name, size in sizes.items() if size % options.layout.learner.tp
    )
    if cites:
        need = "a divisor of " + " and ".join(f"{{{index}}}" for index in range(len(cites)))
        fix = f"use {divisors(*sizes.values())}"
        yield Finding(("layout", "learner", "tp"), need, fix, cites)


def learner_pp_divides_the_layers(options: RunOptions) -> Iterator[Finding]:
    """Every pipeline stage holds equally many layers."""
    if options.model.num_layers % options.layout.learner.pp:
        fix = f"use {divisors(options.model.num_layers)}"
        cites = (("model", "num_layers"),)
        yield Finding(("layout", "learner", "pp"), "a divisor of {0}", fix, cites)


def server_tp_divides_the_heads(options: RunOptions) -> Iterator[Finding]:
    """A server's ranks divide the query heads and the feed-forward width."""
    for name in ("num_heads", "ffn_size"):
        if getattr(options.model, name) % options.layout.generation.tp:
            fix = f"use {divisors(options.model.num_heads)}"
            cites = (("model", name),)
            yield Finding(("layout", "generation", "tp"), "a divisor of {0}", fix, cites)


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


def cpu_computes_in_float32(options: RunOptions) -> Iterator[Finding]:
    """Training on the CPU is in single precision."""
    for job in ("learner", "generation"):
        layout = getattr(options.layout, job)
        if layout.device is Device.CPU and options.model.precision is not Precision.FLOAT32:
            cites = (("layout", job, "device"),)
            fix = "set model.precision: float32, or a gpu layout"
            yield Finding(("model", "precision"), "float32 for {0}", fix, cites)


_RULES: tuple[Callable[[RunOptions], Iterator[Finding]], ...] = (
    names_can_be_folders,
    order_names_each_stage_once,
    learner_tp_divides_the_model,
    learner_pp_divides_the_layers,
    server_tp_divides_the_heads,
    kv_heads_divide_the_heads,
    head_dim_is_even,
    cpu_computes_in_float32,
)
