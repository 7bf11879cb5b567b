"""``e3mega schema``: prints every key of a spec with its type, unit, default and description."""

import argparse
import json
import sys

HELP = "print the keys of a spec, or the JSON Schema for editors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument(
        "key", nargs="?", default="", metavar="KEY", help="a section or a key, e.g. optimizer"
    )
    parser.add_argument("--json", action="store_true", help="print the JSON Schema of spec files")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    if options.json:
        from e3mega.spec.json_schema import json_schema

        json.dump(json_schema(), sys.stdout, indent=2)
        print()
        return 0
    from e3mega.spec.reference import reference_text

    key = tuple(options.key.split(".")) if options.key else ()
    sys.stdout.write(reference_text(key))
    return 0
