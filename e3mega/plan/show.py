"""Prints a plan as tables that fit into 80 columns."""

from collections.abc import Iterator
from itertools import groupby

from rich.console import Console
from rich.table import Table

from e3mega.plan.estimates import RankEstimate, SegmentEstimate
from e3mega.plan.memory import kv_bytes_per_token
from e3mega.plan.planfile import JobPlan, Plan, Role
from e3mega.plan.show_stages import stage_tables
from e3mega.plan.sizes_text import seconds_text, size_text
from e3mega.plan.tables import span, table
from e3mega.plan.topology import GridPlace


def print_plan(plan: Plan, console: Console) -> None:
    """Stages, jobs, ranks, memory, cost and warnings of a plan."""
    console.print(f"[bold]{plan.name}[/bold]  seed {plan.seed}, e3mega {plan.e3mega_version}")
    console.print(f"fingerprint {plan.run_fingerprint}", highlight=False)
    model = plan.model
    console.print(
        f"{model.family.value}, {plan.num_parameters:,} parameters, {model.precision.value}; "
        f"{size_text(plan.sync_bytes)} a weight sync",
        highlight=False,
    )
    grids = (
        each
        for segment in plan.estimates.segments
        for each in (_ranks(plan, segment), _memory(plan, segment))
    )
    for each in (*stage_tables(plan), _servers(plan), _jobs(plan), *grids):
        console.print()
        console.print(each)
    console.print()
    console.print(_cost(plan), highlight=False)
    for warning in plan.warnings:
        console.print(f"\n[yellow]warning[/yellow] {warning}", highlight=False)


def _cost(plan: Plan) -> str:
    expected = plan.estimates
    unit = "core" if expected.learner_device.startswith("cpu") else expected.learner_device
    devices = f"{expected.num_devices} x {unit}"
    hours = f"{expected.device_hours:,.1f} {unit}-hours"
    return f"in all at most about {seconds_text(expected.total_s)} on {devices}: {hours}"


def _servers(plan: Plan) -> Table:
    found = table(
        "each server", "longest ", "at once ", "prefill ", "weights ", "KV cache ", "it holds "
    )
    held = plan.estimates.server
    cache = held.kv_cache_bytes if held is not None else plan.server.kv_cache_bytes
    tokens = cache // kv_bytes_per_token(plan.model) if held is None else held.kv_cache_tokens
    found.add_row(
        f"{plan.server.max_model_len} tokens",
        f"{plan.server.max_num_seqs} sequences",
        f"{plan.server.max_num_batched_tokens} tokens",
        size_text(held.weight_bytes if held is not None else plan.sync_bytes),
        size_text(cache),
        f"{tokens:,} tokens",
    )
    return found


def _jobs(plan: Plan) -> Table:
    """The jobs; neighbours that differ in their number only are one line."""
    found = table("jobs", "job", "role", "module", "threads ", "GPUs ", "node ")
    for (role, module, threads, num_devices), group in groupby(plan.jobs, key=_job_kind):
        jobs = list(group)
        last = jobs[-1].name.rsplit("_", 1)[-1]
        name = jobs[0].name if len(jobs) == 1 else f"{jobs[0].name}-{last}"
        nodes = span(job.node for job in jobs)
        found.add_row(name, role, module, threads, str(num_devices), nodes)
    return found


def _job_kind(job: JobPlan) -> tuple[str, str, str, int]:
    module = job.argv[len(job.argv) - 1 - job.argv[::-1].index("-m") + 1]
    return job.role.value, module, job.env["OMP_NUM_THREADS"], job.num_devices


_AXES = ("tp", "cp", "dp", "pp", "ep")


def _of_stages(plan: Plan, segment: SegmentEstimate) -> str:
    """Which stages a table is about, where the learner's grid changes."""
    return f" in {', '.join(segment.stages)}" if len(plan.estimates.segments) > 1 else ""


def _ranks(plan: Plan, segment: SegmentEstimate) -> Table:
    """Which rank is where: a line for each node and pipeline stage."""
    found = table(
        f"where the learner's ranks are{_of_stages(plan, segment)}",
        *("node ", "GPUs ", "ranks ", *(f"{axis} " for axis in _AXES)),
    )
    jobs = [job for job in plan.jobs if job.role is Role.LEARNER]
    places = [rank.place for rank in segment.ranks]
    per_node = len(places) // len(jobs)

    def place_kind(place: GridPlace) -> tuple[int, int]:
        return place.world_rank // per_node, place.pp_rank

    for (part, _), group in groupby(places, key=place_kind):
        together, devices = list(group), jobs[part].devices
        used = [devices[place.world_rank % per_node] for place in together if devices]
        found.add_row(
            str(jobs[part].node),
            span(used) or "-",
            span(place.world_rank for place in together),
            *(span(getattr(place, f"{axis}_rank") for place in together) for axis in _AXES),
        )
    return found


def _memory(plan: Plan, segment: SegmentEstimate) -> Table:
    """The parts of a rank's memory; ranks that hold the same are one line."""
    found = table(
        f"learner memory{_of_stages(plan, segment)}, at its fullest",
        *("ranks ", "weights ", "grads ", "optimizer ", "activations ", "sync ", "sum ", "of "),
    )
    for ranks, rank in _alike(segment.ranks):
        found.add_row(
            ranks,
            size_text(rank.weight_bytes),
            size_text(rank.gradient_bytes),
            size_text(rank.optimizer_bytes),
            size_text(max(rank.activation_bytes, rank.selection_bytes)),
            size_text(rank.sync_buffer_bytes),
            size_text(rank.device_bytes),
            size_text(plan.estimates.device_bytes) if plan.estimates.device_bytes else "?",
        )
    return found


def _alike(ranks: tuple[RankEstimate, ...]) -> Iterator[tuple[str, RankEstimate]]:
    """Ranks that hold the same bytes, as a span of numbers, with one of them."""
    kinds: dict[tuple[int, ...], list[RankEstimate]] = {}
    for rank in ranks:
        key = (rank.device_bytes, rank.weight_bytes, rank.optimizer_bytes)
        kinds.setdefault(key, []).append(rank)
    for same in kinds.values():
        yield span(rank.place.world_rank for rank in same), same[0]
