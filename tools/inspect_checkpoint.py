"""Says what a checkpoint, the checkpoints of a run or a Hugging Face folder hold: ``PATH``."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from e3mega.checkpoint.inspection import describe
from e3mega.errors import E3Error


def main(argv: list[str]) -> int:
    """Describe; the exit status, 1 when something is damaged."""
    parser = argparse.ArgumentParser(prog="inspect_checkpoint.py", description=__doc__)
    parser.add_argument("path", type=Path, help="a checkpoint, a run or a Hugging Face folder")
    parser.add_argument("--verify", action="store_true", help="check every checksum too")
    parser.add_argument("--tensors", action="store_true", help="list every tensor")
    arguments = parser.parse_args(argv)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    try:
        found = describe(arguments.path, verifies=arguments.verify, lists_tensors=arguments.tensors)
        for line in found:
            console.print(line)
    except E3Error as error:
        print(f"inspect_checkpoint.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
