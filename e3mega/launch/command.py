"""Launches a resolved spec: makes the run folder, submits, and says how to watch."""

import os
import time
from pathlib import Path

from rich.console import Console

from e3mega.errors import E3Error
from e3mega.launch.experiment import Launch, Order, job_name, render, submit
from e3mega.launch.profile import Kind, SiteProfile, find_profile, read_profile
from e3mega.launch.record import LaunchRecord, read_record, write_record
from e3mega.plan.compile import checked_plan
from e3mega.plan.paths import RunPaths, default_run_root
from e3mega.plan.planfile import Plan, read_plan
from e3mega.plan.show import print_plan
from e3mega.plan.topology import rank_grid
from e3mega.run.attempts import read_attempts
from e3mega.run.creation import create_folder
from e3mega.run.folder import open_folder, shown, take_lock
from e3mega.spec.render import resolved_text
from e3mega.spec.resolve import Resolved


def launch_spec(
    resolved: Resolved, profile: SiteProfile, *, run_dir: Path | None, is_applied: bool
) -> int:
    """Show what would be submitted, or submit it; the exit status."""
    plan = checked_plan(resolved)
    root = profile.options.run_root
    folder = run_dir or (Path(root) if root else default_run_root()) / plan.name
    launch = _launch_of(plan, folder.resolve())
    if not is_applied:
        _show(plan, launch, profile)
        return 0
    paths = RunPaths(launch.run_dir)
    open_folder(paths.run_dir)
    lock = take_lock(paths)
    try:
        create_folder(plan, resolved_text(resolved), paths)
    finally:
        os.close(lock)
    return _submit(launch, profile)


def relaunch(run_dir: Path) -> int | None:
    """Submit a launched run again, to go on from its newest checkpoint; None if it never was.

    Raises E3Error when the run is finished.
    """
    paths = RunPaths(run_dir.resolve())
    record = read_record(paths)
    if record is None:
        return None
    attempts = read_attempts(paths.exit_reason)
    if attempts and attempts[-1].exit == 0:
        raise E3Error(f"{shown(paths.run_dir)} is finished; see {shown(paths.report)}")
    profile = read_profile(find_profile(record.profile))
    paths.stop_request.unlink(missing_ok=True)
    return _submit(_launch_of(read_plan(paths.plan), paths.run_dir), profile)


def _launch_of(plan: Plan, run_dir: Path) -> Launch:
    return Launch(plan, run_dir, f"{plan.name}-{time.time_ns()}")


def _show(plan: Plan, launch: Launch, profile: SiteProfile) -> None:
    """The plan, the map of ranks to nodes, and what nemo-run would submit."""
    console = Console()
    print_plan(plan, console)
    nodes = [job.node for job in plan.jobs if job.name.startswith("learner")]
    places = rank_grid(plan.layout.learner)
    per_node = len(places) // max(1, len(nodes))
    console.print("learner ranks")
    for place in places:
        node = nodes[place.world_rank // per_node]
        grid = f"tp {place.tp_rank}, cp {place.cp_rank}, dp {place.dp_rank}, pp {place.pp_rank}"
        console.print(f"  rank {place.world_rank}: node {node}, {grid}", highlight=False)
    show_scripts(_order_of(launch), profile, console)
    print(f"a dry run; with --apply it would be submitted with the folder {launch.run_dir}")


def show_scripts(order: Order, profile: SiteProfile, console: Console) -> None:
    """Print what nemo-run would submit; of a chain's later jobs only what is different."""
    for rendered in render(order, profile):
        if rendered.behind is not None:
            print(
                f"== {rendered.name}: the same with --continues, after {rendered.behind}, "
                "however that ends"
            )
            continue
        console.print(f"\n== {rendered.name}, by {profile.path}", highlight=False)
        print(rendered.text)


def submit_recorded(order: Order, profile: SiteProfile) -> None:
    """Submit, and keep with every run how it was launched."""
    site, chain = str(profile.path.resolve()), profile.options.chain
    jobs = 1 if chain is None else chain.jobs
    # The record is there before a job can end.
    for launch in order.launches:
        write_record(RunPaths(launch.run_dir), LaunchRecord(site, launch.name, (), jobs))
    handles = submit(order, profile)
    for launch in order.launches:
        names = (job_name(launch.run_dir, number) for number in range(len(handles)))
        own = tuple(handles[name] for name in names if name in handles)
        write_record(RunPaths(launch.run_dir), LaunchRecord(site, launch.name, own, jobs))
    for name, handle in handles.items():
        print(f"submitted {name}: {handle}")


def _order_of(launch: Launch) -> Order:
    return Order(launch.plan.name, (launch,), RunPaths(launch.run_dir).launches)


def _submit(launch: Launch, profile: SiteProfile) -> int:
    paths = RunPaths(launch.run_dir)
    submit_recorded(_order_of(launch), profile)
    if profile.options.kind is Kind.LOCAL:
        attempts = read_attempts(paths.exit_reason)
        return attempts[-1].exit or 0 if attempts else E3Error.exit_code
    print(f"watch it: e3mega watch {shown(paths.run_dir)}")
    print(f"stop it:  e3mega stop {shown(paths.run_dir)}")
    return 0
