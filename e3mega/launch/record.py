"""How a run was launched, kept in its folder so that it can be launched again and followed."""

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from e3mega.errors import RecordError
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import LEFT_STATUS
from e3mega.rollout.whole_file import write_whole
from e3mega.run.attempts import Attempt
from e3mega.run.board import read_order
from e3mega.run.node import why_not_continued


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """Example: ``LaunchRecord("launchers/slurm.yaml", "quickstart-1700000000", ("4711",))``."""

    profile: str
    """Path of the site's profile."""
    launch: str
    """Name of the launch; each start of it has a number behind."""
    handles: tuple[str, ...]
    """What the scheduler calls the jobs."""
    jobs: int = 1
    """Most jobs that the run may take, one after the other."""


_ADAPTER = TypeAdapter(LaunchRecord)


def write_record(paths: RunPaths, record: LaunchRecord) -> None:
    """Keep how the run was last launched."""
    write_whole(paths.launch_record, _ADAPTER.dump_json(record, indent=2) + b"\n")


def read_record(paths: RunPaths) -> LaunchRecord | None:
    """How the run was last launched; None for a run of one machine that was just started."""
    if not paths.launch_record.exists():
        return None
    try:
        return _ADAPTER.validate_json(paths.launch_record.read_bytes())
    except ValidationError as error:
        raise RecordError(f"{paths.launch_record}: not of this version: {error}") from error


def jobs_to_come(paths: RunPaths, newest: Attempt) -> int:
    """Jobs of the newest launch that may go on after an attempt that ended.

    All of them as long as none has begun; those behind one that left at its wall-time limit.
    """
    record = read_record(paths)
    if record is None or not record.handles or newest.exit == 0:
        return 0
    order = read_order(paths.order)
    if order is None or not order.launch.startswith(f"{record.launch}-"):
        return record.jobs
    if newest.exit != LEFT_STATUS or why_not_continued(newest)[0]:
        return 0
    # The job's number in its chain, and how often it was queued again.
    number, restarts = order.launch.removeprefix(f"{record.launch}-").split(".")
    begun = 1 + int(number if len(record.handles) > 1 else restarts)
    return max(0, record.jobs - begun)
