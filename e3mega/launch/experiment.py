"""Turns plans into one nemo-run experiment: rendered for a person, or submitted."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from e3mega.errors import JobError, boundary
from e3mega.launch.executors import executors_of, load_nemo_run, script_of
from e3mega.launch.profile import ChainKind, Kind, SiteProfile
from e3mega.plan.planfile import Plan


@dataclass(frozen=True, slots=True)
class Launch:
    """One run to launch. Example: ``Launch(plan, Path("/shared/runs/a"), "a-17")``."""

    plan: Plan
    run_dir: Path
    name: str
    """Names the launch; processes of another launch of the run do not heed its orders."""
    source: Path | None = None
    """Folder of the run, launched with it, that has to end before this one begins."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What would be submitted. Example: ``Rendered("a-0", "#!/bin/bash ...", None)``."""

    name: str
    text: str
    behind: str | None
    """The job of the same chain that it goes on after, with all but the same text."""


@dataclass(frozen=True, slots=True)
class Order:
    """What goes to the scheduler at once. Example: ``Order("a", (launch,), Path("a/launches"))``.

    A run comes after the one that it begins behind.
    """

    title: str
    launches: tuple[Launch, ...]
    home: Path
    """Where nemo-run keeps what it writes."""


def render(order: Order, profile: SiteProfile) -> list[Rendered]:
    """The scripts or manifests of every job, as nemo-run would submit them; leaves nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        with _experiment(order, profile, Path(scratch)) as experiment:
            experiment.dryrun(log=False, exist_ok=True, delete_exp_dir=False)
            texts = _texts(experiment, order, profile, Path(scratch))
        home = str(order.home)
        return [replace(text, text=text.text.replace(scratch, home)) for text in texts]


def submit(order: Order, profile: SiteProfile) -> dict[str, str]:
    """Hand every job to the scheduler; its handles by the jobs' names.

    The local executor has nobody to hand over to: this returns when the runs have ended. Raises
    JobError with what the scheduler said.
    """
    order.home.mkdir(parents=True, exist_ok=True)
    with _experiment(order, profile, order.home) as experiment:
        with boundary(JobError, "the scheduler took no job", words=_said):
            experiment.run(detach=profile.options.kind is not Kind.LOCAL)
        return {job.id: _handle(job) for job in experiment.jobs}


def _said(error: Exception) -> str:
    """What the command that nemo-run called printed, if it was one that failed."""
    printed = getattr(getattr(error, "result", None), "stderr", "")
    return printed.strip() or str(error)


def _handle(job: Any) -> str:
    """The scheduler's own id at the end of nemo-run's handle."""
    return str(job.handle).rsplit("/", 1)[-1]


@contextmanager
def _experiment(order: Order, profile: SiteProfile, home: Path) -> Iterator[Any]:
    """An experiment with the tasks of every launch; nemo-run keeps its files under ``home``."""
    nemo_run = load_nemo_run(home)
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said), _no_input():
        experiment = nemo_run.Experiment(
            order.title,
            base_dir=str(home),
            log_level="ERROR",
            clean_mode=True,
            enable_goodbye_message=False,
            skip_status_at_exit=True,
            serialize_metadata_for_scripts=False,
        )
        with experiment:
            last: dict[Path, str] = {}
            for launch in order.launches:
                before = None if launch.source is None else last[launch.source]
                last[launch.run_dir] = _add(experiment, launch, profile, home, before)
            yield experiment


@contextmanager
def _no_input() -> Iterator[None]:
    """Commands that nemo-run calls read nothing from the terminal."""
    former = sys.stdin
    with open(os.devnull, encoding="utf-8") as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = former


def job_name(run_dir: Path, number: int) -> str:
    """How the scheduler calls a job of a run, which may be a chain of them."""
    return f"{run_dir.name}-{number}"


def _add(
    experiment: Any, launch: Launch, profile: SiteProfile, home: Path, before: str | None
) -> str:
    """The launch's jobs: one, or a chain of which each waits for the one before; the last's name.

    The first waits for ``before``.
    """
    chain = profile.options.chain
    is_chain = chain is not None and chain.kind is ChainKind.DEPENDENT
    for number in range(chain.jobs if is_chain and chain is not None else 1):
        executors = executors_of(launch.plan, profile, home, is_continued=before is not None)
        scripts = [
            script_of(
                launch.plan,
                profile,
                launch.run_dir,
                launch=f"{launch.name}-{number}",
                first_node=executor.first_node,
                continues=number > 0,
            )
            for executor in executors
        ]
        name = job_name(launch.run_dir, number)
        is_group = len(executors) > 1
        before = experiment.add(
            scripts if is_group else scripts[0],
            executor=[each.executor for each in executors] if is_group else executors[0].executor,
            name=name,
            dependencies=[before] if before else None,
        )
    assert before is not None, "a chain has a job"
    return before


def _texts(experiment: Any, order: Order, profile: SiteProfile, scratch: Path) -> list[Rendered]:
    chain = profile.options.chain
    behind = {
        job_name(launch.run_dir, number): job_name(launch.run_dir, number - 1)
        for launch in order.launches
        for number in range(1, 1 if chain is None else chain.jobs)
    }
    found: list[Rendered] = []
    for job in experiment.jobs:
        scripts = sorted(scratch.rglob(f"{job.id}*_sbatch.sh"))
        text = "".join(path.read_text(encoding="utf-8") for path in scripts)
        if profile.options.kind in (Kind.KUBEFLOW, Kind.SKYPILOT):
            text = _manifest(job, profile.options.kind)
        tasks = sorted(path for path in scratch.rglob("scripts/*.sh") if job.id in str(path))
        for path in tasks:
            text += f"\n# {path.name}\n{path.read_text(encoding='utf-8')}"
        found.append(Rendered(job.id, text, behind.get(job.id)))
    assert found, f"{profile.path}: the experiment has no job"
    return found


def _manifest(job: Any, kind: Kind) -> str:
    """What nemo-run would send for a job of an executor that writes no script for sbatch."""
    # It keeps what a dry run came to nowhere else.
    request = job._dryrun_info.request
    if kind is Kind.KUBEFLOW:
        body = request.executor.get_job_body(request.name, request.cmd)
    else:
        body = request.task.to_yaml_config()
    return yaml.safe_dump(body, sort_keys=False)
