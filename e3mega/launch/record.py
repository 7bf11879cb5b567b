"""How a run was launched, kept in its folder so that it can be launched again."""

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from e3mega.errors import RecordError
from e3mega.plan.paths import RunPaths
from e3mega.rollout.whole_file import write_whole


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """Example: ``LaunchRecord("launchers/slurm.yaml", "quickstart-1700000000", ("4711",))``."""

    profile: str
    """Path of the site's profile."""
    launch: str
    """Name of the launch; each start of it has a number behind."""
    handles: tuple[str, ...]
    """What the scheduler calls the jobs."""


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
