"""The command line; every command imports what it needs when it is chosen."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from e3mega.errors import E3Error

if TYPE_CHECKING:
    from e3mega.spec.resolve import Resolved


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status: 0, 1 for what failed, 2 for what was asked wrongly."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except E3Error as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="e3mega", description="Train reasoning models with the e3 recipe at any scale."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    resolve = commands.add_parser("resolve", help="print a spec with the origin of every value")
    _add_spec(resolve)
    resolve.set_defaults(command=_resolve)

    plan = commands.add_parser("plan", help="print what a spec would run, without running it")
    _add_spec(plan)
    plan.add_argument("--json", action="store_true", help="print plan.json as the jobs read it")
    plan.set_defaults(command=_plan)

    run = commands.add_parser("run", help="start a run on this machine and stay until it ends")
    _add_spec(run)
    run.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="a new folder for the run (default: runs/NAME)"
    )
    run.set_defaults(command=_run)

    resume = commands.add_parser("resume", help="continue a run from its newest checkpoint")
    resume.add_argument("run_dir", type=Path, metavar="RUN", help="the folder of the run")
    resume.set_defaults(command=_resume)

    report = commands.add_parser("report", help="write the page of one run or of several beside")
    report.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN", help="folders of runs")
    report.set_defaults(command=_report)
    return parser


def _add_spec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "spec", metavar="SPEC", help="a spec file, or the name of one in specs/runs"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set one value over all files, e.g. layout.learner.tp=1; may be repeated",
    )
    parser.add_argument(
        "--set-file",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="lay a file over the spec; may be repeated",
    )


def _resolved(options: argparse.Namespace) -> "Resolved":
    from e3mega.spec.resolve import find_spec, resolve_spec

    return resolve_spec(find_spec(options.spec), sets=options.set, set_files=options.set_file)


def _resolve(options: argparse.Namespace) -> int:
    from e3mega.spec.render import resolved_text

    sys.stdout.write(resolved_text(_resolved(options)))
    return 0


def _plan(options: argparse.Namespace) -> int:
    from rich.console import Console

    from e3mega.plan.compile import compile_plan
    from e3mega.plan.planfile import plan_to_json
    from e3mega.plan.show import print_plan

    plan = compile_plan(_resolved(options).options)
    if options.json:
        sys.stdout.write(plan_to_json(plan))
    else:
        print_plan(plan, Console())
    return 0


def _run(options: argparse.Namespace) -> int:
    from e3mega.plan.compile import compile_plan
    from e3mega.plan.paths import default_run_dir
    from e3mega.run.local import start_run
    from e3mega.spec.render import resolved_text

    resolved = _resolved(options)
    run_dir = options.run_dir or default_run_dir(resolved.options.name)
    return start_run(compile_plan(resolved.options), resolved_text(resolved), run_dir)


def _resume(options: argparse.Namespace) -> int:
    from e3mega.run.local import resume_run

    return resume_run(options.run_dir)


def _report(options: argparse.Namespace) -> int:
    from e3mega.report.page import write_report

    print(write_report(options.run_dirs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
