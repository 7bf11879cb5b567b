"""Says what does not fit into a device's memory: by how much, and which change would make it fit.

A change is tried by compiling the changed spec, so what is proposed also obeys every rule.
"""

from collections.abc import Iterator

from e3mega.errors import Problem
from e3mega.options import Options
from e3mega.plan.estimate import fullest_ranks, server_estimate
from e3mega.plan.estimates import RankEstimate
from e3mega.plan.machines import device_row, usable_bytes
from e3mega.plan.planfile import ServerPlan, StagePlan
from e3mega.plan.sizes_text import size_text
from e3mega.plan.stages import compile_stages
from e3mega.plan.topology import num_learner_ranks
from e3mega.spec.layout_rules import LAYOUT_RULES
from e3mega.spec.origins import Composition, Key, dotted
from e3mega.spec.schema.layout import Device, Recompute
from e3mega.spec.schema.run import RunOptions

_LEARNER: Key = ("layout", "learner")
_TIER: Key = ("layout", "generation", "tp")


def misfits(
    options: RunOptions,
    composition: Composition,
    stages: tuple[StagePlan, ...],
    server: ServerPlan,
) -> Iterator[Problem]:
    """A problem for each grid of the learner and one for the servers, where they do not fit."""
    for grid in dict.fromkeys(stage.learner for stage in stages):
        alike = tuple(stage for stage in stages if stage.learner == grid)
        own: Key = ("curriculum", "stages", alike[0].name, *_LEARNER)
        key = _LEARNER if grid == options.layout.learner else own
        yield from _learner_misfit(_narrowed(options, alike), composition, alike, key)
    yield from _server_misfit(options, composition, server)


def _narrowed(options: RunOptions, stages: tuple[StagePlan, ...]) -> RunOptions:
    """The run as if it had these stages alone, which have one grid: what is changed is theirs."""
    curriculum = options.curriculum.model_copy(
        update={
            "order": tuple(stage.name for stage in stages),
            "stages": {stage.name: options.curriculum.stages[stage.name] for stage in stages},
        }
    )
    layout = options.layout.model_copy(update={"learner": stages[0].learner})
    return options.model_copy(update={"curriculum": curriculum, "layout": layout})


def _learner_misfit(
    options: RunOptions, composition: Composition, stages: tuple[StagePlan, ...], key: Key
) -> Iterator[Problem]:
    row = device_row(options.layout.learner.device, options.estimates)
    room = usable_bytes(row, options.estimates)
    fullest = _fullest(options, stages)
    if not room or fullest.device_bytes <= room:
        return
    passing = "selection" if fullest.selection_bytes > fullest.activation_bytes else "activation"
    parts = ("weight", "gradient", "optimizer", passing, "sync_buffer")
    listed = ", ".join(
        f"{name.replace('_', ' ')} {size_text(getattr(fullest, f'{name}_bytes'))}" for name in parts
    )
    over = fullest.device_bytes - room
    changes = list(_fitting_changes(options, room))
    fix = f"{size_text(over)} too much; it fits with {' or '.join(changes)}"
    if not changes:
        fix = f"{size_text(over)} too much; use more ranks and recompute: full together"
    yield Problem(
        where=str(composition.place(key)),
        key=dotted(key),
        got=f"{size_text(fullest.device_bytes)} on rank {fullest.place.world_rank} ({listed})",
        need=f"at most {size_text(room)} of a device ({row.name})",
        fix=fix,
    )


def _server_misfit(
    options: RunOptions, composition: Composition, server: ServerPlan
) -> Iterator[Problem]:
    layout = options.layout.generation
    if layout.device is Device.CPU:
        return
    held = server_estimate(options, server)
    if held.kv_cache_tokens >= server.max_model_len:
        return
    wider = (layout.tp * factor for factor in (2, 4, 8, 16))
    fixes = [
        f"tp: {tp}"
        for tp in wider
        if options.model.num_heads % tp == 0 and _server_fits(options, server, tp)
    ]
    yield Problem(
        where=str(composition.place(_TIER)),
        key="layout.generation.tp",
        got=f"{layout.tp}, whose devices hold {size_text(held.weight_bytes)} of weights each and "
        f"a cache of {held.kv_cache_tokens} tokens",
        need=f"room for one request of {server.max_model_len} tokens",
        fix=f"it fits with {fixes[0]}" if fixes else "use larger devices or shorter budgets",
    )


def _server_fits(options: RunOptions, server: ServerPlan, tp: int) -> bool:
    changed = _with(options, "generation", {"tp": tp})
    return server_estimate(changed, server).kv_cache_tokens >= server.max_model_len


def _fullest(options: RunOptions, stages: tuple[StagePlan, ...]) -> RankEstimate:
    return max(fullest_ranks(options, stages), key=lambda rank: rank.device_bytes)


def _fitting_changes(options: RunOptions, room: int) -> Iterator[str]:
    """Changes that make every rank fit, of each kind the smallest; if no single one does, those
    that do together with recomputation."""
    kinds = [_recompute_changes(), _bin_changes(options)]
    kinds += [_axis_changes(options, axis) for axis in ("tp", "pp", "cp", "dp")]
    found = [first for kind in kinds if (first := _first_that_fits(options, kind, room, {}))]
    yield from found
    if not found:
        full: dict[str, object] = {"recompute": Recompute.FULL}
        for axis in ("tp", "pp", "cp", "dp"):
            first = _first_that_fits(options, _axis_changes(options, axis), room, full)
            if first:
                yield f"recompute: full and {first}"


def _first_that_fits(
    options: RunOptions,
    kind: Iterator[tuple[str, dict[str, object]]],
    room: int,
    also: dict[str, object],
) -> str:
    fitting = (text for text, changed in kind if _fits(options, changed | also, room))
    return next(fitting, "")


def _recompute_changes() -> Iterator[tuple[str, dict[str, object]]]:
    for recompute in (Recompute.ATTENTION, Recompute.FULL):
        yield f"recompute: {recompute.value}", {"recompute": recompute}


def _bin_changes(options: RunOptions) -> Iterator[tuple[str, dict[str, object]]]:
    """The smallest bin that holds the longest sequence of every stage."""
    stages = compile_stages(options)
    longest = max(budget.max_sequence_tokens for stage in stages for budget in stage.budgets)
    if any(stage.rollout.packed_tokens > longest for stage in stages):
        yield f"rollout.packed_tokens: {longest}", {"packed_tokens": longest}


def _axis_changes(options: RunOptions, axis: str) -> Iterator[tuple[str, dict[str, object]]]:
    """More ranks along one axis; as many ranks as before where dp can give them up."""
    layout = options.layout.learner
    for factor in (2, 4, 8, 16):
        changed: dict[str, object] = {axis: getattr(layout, axis) * factor}
        notes: list[str] = []
        if axis != "dp" and layout.dp % factor == 0:
            changed["dp"] = layout.dp // factor
            notes.append(f"dp: {changed['dp']}")
        if axis == "tp" and not layout.sequence_parallel:
            changed["sequence_parallel"] = True
            notes.append("sequence_parallel: true")
        ranks = num_learner_ranks(layout.model_copy(update=changed))
        if ranks != num_learner_ranks(layout):
            notes.append(f"{ranks} ranks")
        if _obeys(options, changed):
            beside = f" (with {' and '.join(notes)})" if notes else ""
            yield f"{axis}: {changed[axis]}{beside}", changed


def _obeys(options: RunOptions, changed: dict[str, object]) -> bool:
    """Whether the changed grid breaks no rule of layouts."""
    after = _with(options, "learner", changed)
    return not any(finding for rule in LAYOUT_RULES for finding in rule(after))


def _fits(options: RunOptions, changed: dict[str, object], room: int) -> bool:
    after = _with(options, "learner", changed)
    return _fullest(after, compile_stages(after)).device_bytes <= room


def _with(options: RunOptions, job: str, changed: dict[str, object]) -> RunOptions:
    """The options with keys of one job's layout changed, in the run and in every stage;
    ``packed_tokens`` is the rollout's."""
    bins = {name: value for name, value in changed.items() if name == "packed_tokens"}
    grid = {name: value for name, value in changed.items() if name != "packed_tokens"}

    def relaid(section: Options) -> Options:
        inner = getattr(section, job).model_copy(update=grid)
        return section.model_copy(update={job: inner})

    stages = {
        name: stage.model_copy(
            update={
                "layout": relaid(stage.layout),
                "rollout": stage.rollout.model_copy(update=bins),
            }
        )
        for name, stage in options.curriculum.stages.items()
    }
    curriculum = options.curriculum.model_copy(update={"stages": stages})
    return options.model_copy(update={"layout": relaid(options.layout), "curriculum": curriculum})
