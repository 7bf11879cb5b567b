"""``e3mega sweep``: expands axes over a spec into named runs, prints what they cost, runs them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e3mega.plan.prefixes import SweepRun
    from e3mega.plan.sweep import Axis

HELP = "expand axes over a spec into named runs, and run them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument(
        "spec", metavar="SPEC", help="a spec file, or the name of one in specs/runs"
    )
    for flag, metavar, what in (
        ("--axis", "KEY=[V, ...]", "values of a key, e.g. seed=[1, 2]; may be repeated"),
        ("--fragments", "PLACE=[F, ...]", "fragments for a place, e.g. loss=[loss/a, loss/b]"),
    ):
        parser.add_argument(flag, action="append", default=[], metavar=metavar, help=what)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the specs and their runs (default: runs/NAME-sweep)",
    )
    parser.add_argument(
        "--run",
        action="store_true",
        help="run them on this machine, one after the other; given again, go on where it ended",
    )
    parser.add_argument(
        "--on",
        metavar="PROFILE",
        help="show how a site's scheduler would get them, as one experiment; see e3mega launch",
    )
    parser.add_argument("--apply", action="store_true", help="with --on: submit them")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from rich.console import Console

    from e3mega.plan.paths import default_run_dir, sweep_run_dir
    from e3mega.plan.show_sweep import print_sweep
    from e3mega.plan.sweep import expand_sweep
    from e3mega.spec.resolve import find_spec

    base = find_spec(options.spec)
    axes = [_axis(text, is_fragments=True) for text in options.fragments]
    axes += [_axis(text, is_fragments=False) for text in options.axis]
    folder = options.out or default_run_dir(f"{base.stem}-sweep")
    runs = expand_sweep(base, axes, folder)
    print_sweep(axes, runs, Console())
    if options.run:
        from e3mega.run.sweep import run_sweep

        return run_sweep(runs, folder, Console())
    if options.on:
        from e3mega.launch.profile import find_profile, read_profile
        from e3mega.launch.sweep import launch_sweep

        profile = read_profile(find_profile(options.on))
        return launch_sweep(runs, folder, profile, is_applied=options.apply)
    print("\nto run them all and compare them on one page, give --run; to run one by one:")
    for each in runs:
        print(f"  {_command(each)}")
    whole = (str(sweep_run_dir(each.path)) for each in runs if not each.is_prefix)
    print(f"  e3mega report {' '.join(whole)}")
    return 0


def _command(run: "SweepRun") -> str:
    """What runs one of them where --run would."""
    from e3mega.plan.paths import sweep_run_dir

    begin = f" --from {sweep_run_dir(run.path.with_name(run.source))}" if run.source else ""
    return f"e3mega run {run.path} --run-dir {sweep_run_dir(run.path)}{begin}"


def _axis(text: str, *, is_fragments: bool) -> "Axis":
    """An axis as written; raises SpecError when it is no list of points."""
    import yaml

    from e3mega.errors import Problem, SpecError
    from e3mega.plan.sweep import Axis
    from e3mega.spec.yamlfile import parse_scalar_text

    flag = "--fragments" if is_fragments else "--axis"
    key, _, value = text.partition("=")
    try:
        points = parse_scalar_text(value)
    except yaml.YAMLError:
        points = None
    if not isinstance(points, list) or not points or not key:
        fix = "write --axis 'seed=[1, 2]' or --fragments 'loss=[loss/grpo, loss/nsr]'"
        raise SpecError((Problem("command line", flag, repr(text), "KEY=[point, ...]", fix),))
    return Axis(key.strip(), tuple(points), is_fragments)
