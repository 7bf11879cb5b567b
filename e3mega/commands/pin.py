"""``e3mega pin``: writes a spec that holds another one's data and models still."""

import argparse
import os
import sys
from pathlib import Path

HELP = "write checksums and revisions of a spec's data and models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument(
        "spec", metavar="SPEC", help="a spec file, or the name of one in specs/runs"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the pinned spec (default: print it)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.spec.pin import pinned_text, pins, unpinned
    from e3mega.spec.resolve import find_spec, resolve_spec

    path = find_spec(options.spec)
    resolved = resolve_spec(path)
    found = pins(resolved.options, _hub_revision)
    folder = options.out.resolve().parent if options.out else Path.cwd()
    include = f"./{os.path.relpath(path.resolve(), folder)}"
    left_out = unpinned(resolved.options)
    text = pinned_text(include, resolved.options.name, found, left_out)
    for each in left_out:
        print(f"not pinned, since it is not on this machine: {each}", file=sys.stderr)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
        print(options.out)
    else:
        sys.stdout.write(text)
    return 0


def _hub_revision(name: str) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    from e3mega.errors import E3Error

    try:
        return str(HfApi().dataset_info(name).sha)
    except (HfHubHTTPError, OSError) as error:
        raise E3Error(
            f"the revision of {name} could not be asked for: {error}; pin where the hub "
            "is reachable, or name a file"
        ) from error
