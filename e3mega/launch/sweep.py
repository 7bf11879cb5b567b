"""Launches a sweep as one nemo-run experiment: what its runs share is trained once.

Every run is a job, or a chain of jobs, of its own. One that begins behind another waits for it.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from e3mega.errors import E3Error
from e3mega.launch.command import show_scripts, submit_recorded
from e3mega.launch.experiment import Launch, Order
from e3mega.launch.profile import Kind, SiteProfile, cluster_sets
from e3mega.plan.compile import checked_plan
from e3mega.plan.paths import RunPaths, sweep_run_dir
from e3mega.plan.prefixes import SweepRun
from e3mega.run.begin_behind import note_source
from e3mega.run.creation import create_folder
from e3mega.run.folder import open_folder, shown, take_lock
from e3mega.spec.render import resolved_text
from e3mega.spec.resolve import Resolved, resolve_spec


def launch_sweep(
    runs: Sequence[SweepRun], folder: Path, profile: SiteProfile, *, is_applied: bool
) -> int:
    """Show what would be submitted, or submit it; the exit status.

    Raises E3Error when a run has a folder already, or the profile starts nothing by itself.
    """
    if profile.options.kind in (Kind.LOCAL, Kind.KUBEFLOW, Kind.SKYPILOT):
        raise E3Error(
            f"{profile.path}: kind {profile.options.kind.value} starts no job after another; "
            "give --run to run the sweep on this machine, or launch run by run"
        )
    resolved = [resolve_spec(run.path, sets=cluster_sets(profile, ())) for run in runs]
    launches = tuple(map(_launch, runs, resolved))
    order = Order(folder.name, launches, RunPaths(folder.resolve()).launches)
    if not is_applied:
        show_scripts(order, profile, Console())
        for launch in launches:
            if launch.source is not None:
                print(f"{launch.run_dir.name} waits for {launch.source.name} and begins behind it")
        print(f"a dry run; with --apply it would be submitted with folders in {folder}")
        return 0
    for launch in launches:
        if RunPaths(launch.run_dir).plan.exists():
            raise E3Error(
                f"{shown(launch.run_dir)} holds a run already; choose another folder with --out, "
                f"or continue it with e3mega resume {shown(launch.run_dir)}"
            )
    for launch, each in zip(launches, resolved, strict=True):
        _create(launch, each)
    submit_recorded(order, profile)
    print(f"watch them: e3mega list {shown(folder)}")
    return 0


def _launch(run: SweepRun, resolved: Resolved) -> Launch:
    source = sweep_run_dir(run.path.with_name(f"{run.source}.yaml")) if run.source else None
    return Launch(
        checked_plan(resolved),
        sweep_run_dir(run.path).resolve(),
        f"{run.plan.name}-{time.time_ns()}",
        None if source is None else source.resolve(),
    )


def _create(launch: Launch, resolved: Resolved) -> None:
    paths = RunPaths(launch.run_dir)
    open_folder(paths.run_dir)
    lock = take_lock(paths)
    try:
        create_folder(launch.plan, resolved_text(resolved), paths)
        if launch.source is not None:
            note_source(paths, launch.source)
    finally:
        os.close(lock)
