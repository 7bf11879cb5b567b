"""nemo-run's executors and scripts for the node groups of a plan."""

import importlib
import os
import shlex
import signal
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e3mega.errors import E3Error
from e3mega.launch.profile import EXECUTORS, ChainKind, Kind, Profile, SiteProfile
from e3mega.plan.placement import NodeGroup, place
from e3mega.plan.planfile import LEFT_STATUS, Plan

_GROUP_POLL_S = 5
"""How soon nemo-run's script notices that one group of a job has ended."""


_TOLD_STATUS = 128 + signal.SIGTERM
"""Of a run that SIGTERM ended."""
_AGAIN = """\
again() {{
    local status=$? state
    state=$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T | head -n 1)
    [ $status -eq {told} ] && [ "$state" = RUNNING ] && status={left}
    [ $status -eq {left} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {most} ] || return
    scontrol requeue "$SLURM_JOB_ID"
}}
trap again EXIT"""
"""Queues the batch script's own job again."""


@dataclass(frozen=True, slots=True)
class GroupExecutor:
    """An executor for consecutive nodes. Example: ``GroupExecutor(0, executor)``."""

    first_node: int
    executor: Any


def load_nemo_run(home: Path) -> Any:
    """nemo-run, keeping what it writes under ``home``; raises E3Error when it is not installed."""
    # It reads the variable when it is imported.
    os.environ["NEMORUN_HOME"] = str(home)
    try:
        with warnings.catch_warnings():
            # Of packages that it loads; none can be acted on here.
            warnings.simplefilter("ignore")
            return importlib.import_module("nemo_run")
    except ImportError as error:
        raise E3Error(
            f"nemo-run cannot be loaded ({error}); run make setup EXTRAS=cpu,dev,cluster"
        ) from error


def executors_of(
    plan: Plan, profile: SiteProfile, home: Path, *, is_continued: bool
) -> list[GroupExecutor]:
    """One executor for each group of alike nodes, in the order of the nodes.

    Raises E3Error when the executor cannot carry the plan's nodes.
    """
    nemo_run = load_nemo_run(home)
    groups = place(plan.cluster, plan.layout).groups
    kind = profile.options.kind
    if kind is Kind.LOCAL and plan.num_nodes > 1:
        raise E3Error(
            f"{profile.path}: kind local has one node, the plan has {plan.num_nodes}; set "
            "cluster.learner_nodes=1 and cluster.generation_nodes=0"
        )
    chain = profile.options.chain
    if chain is not None and chain.kind is ChainKind.REQUEUE and len(groups) > 1:
        raise E3Error(
            f"{profile.path}: chain.kind requeue: Slurm does not start a heterogeneous job that "
            "was queued again; use kind: dependent, or set cluster.generation_nodes=0 and "
            "cluster.has_loop_node=false"
        )
    if kind in (Kind.KUBEFLOW, Kind.SKYPILOT) and len(groups) > 1:
        raise E3Error(
            f"{profile.path}: kind {kind.value} has nodes of one sort only; set "
            "cluster.generation_nodes=0 and cluster.has_loop_node=false"
        )
    return [
        GroupExecutor(group.first_node, _executor(nemo_run, plan, profile, home, group, groups))
        if not is_continued
        else GroupExecutor(
            group.first_node,
            _continued(_executor(nemo_run, plan, profile, home, group, groups)),
        )
        for group in groups
    ]


def _continued(executor: Any) -> Any:
    """A later job of a chain: it waits for the one before to end, however that ends."""
    executor.dependency_type = "afterany"
    return executor


def _executor(
    nemo_run: Any,
    plan: Plan,
    profile: SiteProfile,
    home: Path,
    group: NodeGroup,
    groups: tuple[NodeGroup, ...],
) -> Any:
    options = profile.options
    fields: dict[str, Any] = {**options.executor, "env_vars": dict(options.env)}
    if options.kind is Kind.SLURM:
        fields |= _slurm_fields(nemo_run, plan, profile, home, group, groups)
    elif options.kind is Kind.LOCAL:
        fields |= {"nodes": 1, "ntasks_per_node": 1}
    else:
        fields |= {"num_nodes": group.num_nodes}
        if plan.cluster.gpus_per_node is not None and group.num_gpus:
            fields["gpus_per_node"] = plan.cluster.gpus_per_node
    if options.kind is Kind.SKYPILOT:
        fields["setup"] = options.setup or None
    else:
        # The interpreter of the profile has e3mega; no code is packed and carried along.
        fields["packager"] = nemo_run.Packager()
    try:
        return getattr(nemo_run, EXECUTORS[options.kind])(**fields)
    except (AssertionError, ImportError, TypeError) as error:
        raise E3Error(f"{profile.path}: {EXECUTORS[options.kind]}: {error}") from error


def _slurm_fields(
    nemo_run: Any,
    plan: Plan,
    profile: SiteProfile,
    home: Path,
    group: NodeGroup,
    groups: tuple[NodeGroup, ...],
) -> dict[str, Any]:
    options, cluster = profile.options, plan.cluster
    fields: dict[str, Any] = {
        "nodes": group.num_nodes,
        "ntasks_per_node": 1,
        # Slurm tells every task so long before the wall-time limit; a run then leaves.
        "signal": f"USR1@{max(1, round(cluster.leave_deadline_s))}",
        "setup_lines": "\n".join(_setup_lines(options)) or None,
        "heterogeneous": len(groups) > 1,
        "wait_time_for_group_job": 0,
        "monitor_group_job_wait_time": _GROUP_POLL_S,
        "poll_estimated_start_time": False,
    }
    if cluster.gpus_per_node is not None:
        # nemo-run takes from the first group which flags there are, so each group has this one.
        fields["gpus_per_node"] = cluster.gpus_per_node if group.num_gpus else 0
    if options.tunnel is not None:
        fields["tunnel"] = nemo_run.SSHTunnel(**options.tunnel)
    else:
        fields["tunnel"] = nemo_run.LocalTunnel(job_dir=str(home / "experiments"))
    return {**fields, **{k: v for k, v in options.executor.items() if k in fields}}


def _setup_lines(options: Profile) -> list[str]:
    """Lines of the batch script before the run's tasks.

    nemo-run's own ``retries`` queue a job again after any failure. This does when the run left at a
    checkpoint, or was sent SIGTERM by a preemption: after ``scancel`` the job runs no more.
    """
    lines = [options.setup] if options.setup else []
    if options.chain is not None and options.chain.kind is ChainKind.REQUEUE:
        lines.append(
            _AGAIN.format(left=LEFT_STATUS, told=_TOLD_STATUS, most=options.chain.jobs - 1)
        )
    return lines


def script_of(
    plan: Plan,
    profile: SiteProfile,
    run_dir: Path,
    *,
    launch: str,
    first_node: int,
    continues: bool,
) -> Any:
    """The script of one task: it becomes the supervisor of the node that it is started on."""
    nemo_run = importlib.import_module("nemo_run")
    python, module = profile.options.python or sys.executable, "e3mega.run.node"
    words = [str(run_dir), "--launch", launch, "--first-node", str(first_node)]
    if profile.options.pass_env:
        words += ["--pass-env", ",".join(profile.options.pass_env)]
    if continues:
        words.append("--continues")
    assert plan.num_nodes > first_node, "a group of the plan"
    if profile.options.kind is Kind.KUBEFLOW:
        # No file of nemo-run's reaches a pod, so the command stands in the manifest itself.
        return nemo_run.Script(path=module, m=True, entrypoint=python, args=words)
    command = " ".join(shlex.quote(word) for word in (python, "-m", module, *words))
    return nemo_run.Script(inline=f"exec {command}\n")
