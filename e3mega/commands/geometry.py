"""``e3mega geometry``: writes a model fragment from a Hugging Face configuration."""

import argparse
import sys
from pathlib import Path

HELP = "write a model fragment from a Hugging Face config.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument(
        "config", type=Path, help="config.json of a Hugging Face model, or its folder"
    )
    parser.add_argument("--output", type=Path, help="the fragment to write; printed by default")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.errors import ModelError
    from e3mega.families.fragment import model_fragment
    from e3mega.families.hf_config import read_config

    path: Path = options.config
    folder = path if path.is_dir() else path.parent
    text = model_fragment(read_config(folder), str(folder / "config.json"))
    if options.output is None:
        sys.stdout.write(text)
        return 0
    if options.output.exists():
        raise ModelError(f"{options.output} exists; choose another file, or remove it first")
    options.output.write_text(text, encoding="utf-8")
    return 0
