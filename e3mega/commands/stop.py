"""``e3mega stop``: has a run leave at a checkpoint, so that it can be resumed."""

import argparse
import time

from e3mega.commands.run_argument import add_run, run_dir_of

HELP = "have a run take a checkpoint and leave, wherever it runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add_run(parser)
    parser.add_argument(
        "--no-wait", action="store_true", help="only ask; do not wait until the run has left"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status: 0 when the run has left or was asked to."""
    from e3mega.errors import E3Error
    from e3mega.rollout.whole_file import write_whole
    from e3mega.run.folder import shown
    from e3mega.run.views.status import read_status, state_words

    run_dir = run_dir_of(options)
    status = read_status(run_dir)
    if not status.is_open:
        print(f"{status.plan.name} does not run: {state_words(status)}")
        return 0
    write_whole(status.paths.stop_request, b"")
    print(f"{status.plan.name} was asked to leave at a checkpoint")
    limit_s = status.plan.cluster.leave_deadline_s + status.plan.cluster.heartbeat_deadline_s
    deadline = time.monotonic() + limit_s
    while not options.no_wait and status.is_open:
        if time.monotonic() > deadline:
            raise E3Error(
                f"{shown(status.paths.run_dir)} did not leave within {limit_s:g} s: "
                f"{state_words(status)}"
            )
        time.sleep(0.5)
        status = read_status(run_dir)
    if not status.is_open:
        print(f"{state_words(status)}\ncontinue it: e3mega resume {shown(status.paths.run_dir)}")
    return 0
