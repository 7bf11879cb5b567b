"""Writes a checkpoint, or the newest of a run, as a Hugging Face folder: ``SRC OUT [--verify]``."""

import argparse
import sys
from pathlib import Path

from e3mega.checkpoint.bar import byte_bar
from e3mega.checkpoint.convert import (
    checkpoint_of,
    export_checkpoint,
    model_bytes,
    refuse_existing,
)
from e3mega.checkpoint.manifest import read_manifest
from e3mega.errors import E3Error


def convert(arguments: argparse.Namespace) -> None:
    """Convert and say what was written."""
    refuse_existing(arguments.out)
    source = checkpoint_of(arguments.src)
    model = read_manifest(source).model
    with byte_bar("convert", model_bytes(model)) as progress:
        manifest, is_tokenized = export_checkpoint(source, arguments.out, progress)
    print(
        f"{arguments.out}: {model.family.value}, {model_bytes(model):,} bytes of "
        f"{model.precision.value}, from {source} after {manifest.version} steps"
    )
    if not is_tokenized:
        print(f"note: {source} holds no tokenizer; none goes along")
    if arguments.verify:
        # Logits need transformers and a Megatron model; a plain conversion needs neither.
        from e3mega.learner.verification import verified

        for line in verified(arguments.out, source):
            print(line)


def main(argv: list[str]) -> int:
    """Convert; the exit status."""
    parser = argparse.ArgumentParser(prog="convert_megatron_to_hf.py", description=__doc__)
    parser.add_argument("src", type=Path, help="folder of a checkpoint, or of a run")
    parser.add_argument("out", type=Path, help="new folder for transformers and vLLM")
    parser.add_argument("--verify", action="store_true", help="compare tensors and logits then")
    try:
        convert(parser.parse_args(argv))
    except E3Error as error:
        print(f"convert_megatron_to_hf.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
