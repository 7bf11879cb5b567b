"""Begins a launched run behind the stages of another, when that one has ended.

Consumes the other run's folder, produces the checkpoint that the run goes on from. Unblocked by
the scheduler, which starts the run's job after the other's.
"""

from pathlib import Path

from e3mega.errors import E3Error
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import read_plan
from e3mega.rollout.whole_file import text_if_there, write_whole
from e3mega.run.attempts import read_attempts
from e3mega.run.folder import shown
from e3mega.run.shared_stages import share_stages


def note_source(paths: RunPaths, source: Path) -> None:
    """Have the run begin behind the stages that it shares with ``source``."""
    write_whole(paths.begins_behind, f"{source.resolve()}\n".encode())


def begin_behind(paths: RunPaths) -> None:
    """Take the shared stages, if the run is to begin behind any and has not yet.

    May be repeated after a kill. Raises E3Error when the other run is not finished.
    """
    text = text_if_there(paths.begins_behind).strip()
    if not text:
        return
    source = RunPaths(Path(text))
    attempts = read_attempts(source.exit_reason)
    if not attempts or attempts[-1].exit != 0:
        why = attempts[-1].reason if attempts else ""
        raise E3Error(
            f"{shown(paths.run_dir)} begins behind {shown(source.run_dir)}, which is not finished"
            f"{': ' + why if why else ''}; finish that one, then e3mega resume "
            f"{shown(paths.run_dir)}"
        )
    share_stages(read_plan(paths.plan), paths, source)
    paths.begins_behind.unlink()
