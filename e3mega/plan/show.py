"""Prints a plan as tables that fit into 80 columns."""

from rich import box
from rich.console import Console
from rich.table import Table

from e3mega.curriculum.options import RampBudget, StepsExit
from e3mega.plan.flops import step_work
from e3mega.plan.memory import kv_bytes_per_token, memory_per_rank
from e3mega.plan.planfile import Plan, StagePlan
from e3mega.spec.schema.curriculum import StageMode


def print_plan(plan: Plan, console: Console) -> None:
    """Stages, jobs, memory and warnings of a plan."""
    console.print(f"[bold]{plan.name}[/bold]  seed {plan.seed}, e3mega {plan.e3mega_version}")
    console.print(f"fingerprint {plan.run_fingerprint}", highlight=False)
    model = plan.model
    console.print(
        f"{model.family.value}, {plan.num_parameters:,} parameters, {model.precision.value}; "
        f"{_size(plan.sync_bytes)} a weight sync",
        highlight=False,
    )
    for table in (_stages(plan), _work(plan), _servers(plan), _jobs(plan), _memory(plan)):
        console.print()
        console.print(table)
    for warning in plan.warnings:
        console.print(f"\n[yellow]warning[/yellow] {warning}", highlight=False)


def _table(title: str, *columns: str) -> Table:
    """Columns whose name ends in a space are numbers, set to the right."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        table.add_column(
            column.strip(), justify="right" if column.endswith(" ") else "left", overflow="fold"
        )
    return table


def _stages(plan: Plan) -> Table:
    table = _table(
        "stages",
        *("stage", "mode", "budget", "exit", "steps ", "groups ", "round ", "lag "),
    )
    for stage in plan.stages:
        rollout = stage.rollout
        table.add_row(
            stage.name,
            stage.mode.value,
            _budget(stage),
            stage.exit.kind,
            f"<= {stage.max_steps}" if _may_end_early(stage) else str(stage.max_steps),
            f"{rollout.prompts_per_step} x {rollout.samples_per_prompt}",
            str(rollout.steps_per_round),
            str(rollout.max_lag) if stage.mode is StageMode.RL else "-",
        )
    return table


def _budget(stage: StagePlan) -> str:
    tokens = [str(budget.tokens) for budget in stage.budgets]
    return (" to " if isinstance(stage.budget, RampBudget) else " or ").join(tokens)


def _may_end_early(stage: StagePlan) -> bool:
    return not isinstance(stage.exit, StepsExit)


def _work(plan: Plan) -> Table:
    table = _table(
        "one optimizer step, at most",
        *("stage", "budget ", "sequence ", "bin ", "sequences ", "tokens ", "GFLOP "),
    )
    for stage in plan.stages:
        for budget in stage.budgets:
            work = step_work(plan.model, stage, budget)
            table.add_row(
                stage.name,
                str(budget.tokens),
                str(budget.max_sequence_tokens),
                str(budget.packed_tokens),
                str(work.num_sequences),
                f"{work.max_tokens:,}",
                f"{work.max_flops / 1e9:,.1f}",
            )
    return table


def _servers(plan: Plan) -> Table:
    table = _table(
        "each server", "longest ", "at once ", "prefill ", "KV cache ", "KV cache holds "
    )
    table.add_row(
        f"{plan.server.max_model_len} tokens",
        f"{plan.server.max_num_seqs} sequences",
        f"{plan.server.max_num_batched_tokens} tokens",
        _size(plan.server.kv_cache_bytes),
        f"{plan.server.kv_cache_bytes // kv_bytes_per_token(plan.model):,} tokens",
    )
    return table


def _jobs(plan: Plan) -> Table:
    table = _table("jobs", "job", "role", "module", "threads ", "GPUs ", "node ")
    for job in plan.jobs:
        module = job.argv[len(job.argv) - 1 - job.argv[::-1].index("-m") + 1]
        table.add_row(
            job.name,
            job.role.value,
            module,
            job.env["OMP_NUM_THREADS"],
            str(job.num_devices),
            str(job.node),
        )
    return table


def _memory(plan: Plan) -> Table:
    table = _table(
        "learner ranks, without activations",
        *("rank ", "tp ", "dp ", "pp ", "weights ", "gradients ", "optimizer ", "sum "),
    )
    for rank in memory_per_rank(plan.model, plan.layout.learner):
        place = rank.place
        table.add_row(
            str(place.world_rank),
            str(place.tp_rank),
            str(place.dp_rank),
            str(place.pp_rank),
            _size(rank.weight_bytes),
            _size(rank.gradient_bytes),
            _size(rank.optimizer_bytes),
            _size(rank.total_bytes),
        )
    return table


def _size(num_bytes: int) -> str:
    """Bytes with a unit. Example: ``_size(1_572_864) == "1.5 MiB"``."""
    value, units = float(num_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
