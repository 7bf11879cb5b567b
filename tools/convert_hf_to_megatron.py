"""Writes a Hugging Face folder as a Megatron checkpoint: ``HF OUT [--tp --pp --ep] [--verify]``."""

import argparse
import sys
from pathlib import Path

from e3mega.checkpoint.bar import byte_bar
from e3mega.checkpoint.convert import import_hf, model_bytes, model_of, refuse_existing
from e3mega.checkpoint.grid import grid_of
from e3mega.checkpoint.hf import has_tokenizer
from e3mega.errors import E3Error


def convert(arguments: argparse.Namespace) -> None:
    """Convert and say what was written."""
    refuse_existing(arguments.out)
    model = model_of(arguments.hf)
    layout = grid_of(model, tp=arguments.tp, pp=arguments.pp, ep=arguments.ep)
    with byte_bar("convert", model_bytes(model)) as progress:
        import_hf(arguments.hf, arguments.out, layout, progress)
    print(
        f"{arguments.out}: {model.family.value}, {model_bytes(model):,} bytes of "
        f"{model.precision.value}, for tp {layout.tp}, pp {layout.pp}, ep {layout.ep}"
    )
    if not has_tokenizer(arguments.hf):
        print(f"note: {arguments.hf} has no tokenizer; none goes along")
    if arguments.verify:
        # Logits need transformers and a Megatron model; a plain conversion needs neither.
        from e3mega.learner.verification import verified

        for line in verified(arguments.hf, arguments.out):
            print(line)


def main(argv: list[str]) -> int:
    """Convert; the exit status."""
    parser = argparse.ArgumentParser(prog="convert_hf_to_megatron.py", description=__doc__)
    parser.add_argument("hf", type=Path, help="folder with config.json and safetensors")
    parser.add_argument("out", type=Path, help="new folder of the checkpoint")
    parser.add_argument("--tp", type=int, default=1, help="tensor-parallel ranks")
    parser.add_argument("--pp", type=int, default=1, help="pipeline-parallel ranks")
    parser.add_argument("--ep", type=int, default=1, help="expert-parallel ranks")
    parser.add_argument("--verify", action="store_true", help="compare tensors and logits then")
    try:
        convert(parser.parse_args(argv))
    except E3Error as error:
        print(f"convert_hf_to_megatron.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
