"""Every grid of up to four ranks that the planner lets a model have on the CPU."""

import itertools
from collections.abc import Iterator

from e3mega.families.geometry import ModelOptions
from e3mega.plan.topology import num_learner_ranks
from e3mega.spec.files import LIBRARY
from e3mega.spec.layout_rules import LAYOUT_RULES
from e3mega.spec.resolve import resolve_spec
from e3mega.spec.schema.layout import LearnerLayout

_MAX_RANKS = 4
_UNEVEN = {2: (1, 3), 3: (1, 2, 1)}
"""Layers of each stage of four, where they are listed."""


def every_grid(model: ModelOptions) -> dict[str, LearnerLayout]:
    """The grids of a model of four layers by name, one rank alone left out."""
    options = resolve_spec(LIBRARY / "runs" / "quickstart.yaml").options
    found: dict[str, LearnerLayout] = {}
    for layout in _combinations():
        changed = options.layout.model_copy(update={"learner": layout})
        run = options.model_copy(update={"model": model, "layout": changed})
        if not any(True for rule in LAYOUT_RULES for _ in rule(run)):
            found[_name(layout)] = layout
    return found


def _combinations() -> Iterator[LearnerLayout]:
    sizes = range(1, _MAX_RANKS + 1)
    for tp, pp, cp, dp in itertools.product(sizes, repeat=4):
        if not 1 < tp * pp * cp * dp <= _MAX_RANKS:
            continue
        for ep, expert_tp, is_divided, chunks, is_listed in itertools.product(
            sizes, sorted({1, tp}), (False, True), (1, 2), (False, True)
        ):
            if is_listed and (chunks > 1 or pp not in _UNEVEN):
                continue
            layout = LearnerLayout(
                tp=tp,
                pp=pp,
                cp=cp,
                dp=dp,
                ep=ep,
                expert_tp=expert_tp,
                sequence_parallel=is_divided,
                chunks_per_stage=chunks,
                layers_per_chunk=_UNEVEN[pp] if is_listed else None,
            )
            assert num_learner_ranks(layout) <= _MAX_RANKS
            yield layout


def _name(layout: LearnerLayout) -> str:
    sizes = {axis: getattr(layout, axis) for axis in ("tp", "pp", "cp", "dp", "ep", "expert_tp")}
    words = [f"{axis}{size}" for axis, size in sizes.items() if size > 1]
    words += ["sequence"] * layout.sequence_parallel
    words += ["interleaved"] * (layout.chunks_per_stage > 1)
    words += ["uneven"] * (layout.layers_per_chunk is not None)
    return "-".join(words)
