"""Times both conversions against copying the same bytes, and tells their peak memory.

``bench_convert.py [--bytes N] [--tp --pp] [--repeats N] [--folder F]``. Each part runs in a process
of its own; copying and converting take turns, so that a busy moment of the machine falls on all,
and the table shows medians with their range. Python's start and the import of torch, once a call,
are told apart.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peak_memory import PeakMemory

from e3mega.checkpoint.convert import export_checkpoint, import_hf, model_bytes
from e3mega.checkpoint.grid import grid_of
from e3mega.checkpoint.hf import tensor_facts
from e3mega.checkpoint.manifest import Lineage
from e3mega.families.geometry import Family, ModelOptions

_PARTS = ("read", "copy", "import", "export")
_WRITTEN = ("copy", "checkpoint", "back")
_WIDTH = 1024


def bench_model(num_bytes: int) -> ModelOptions:
    """A Qwen3 of about so many bytes in fp32, in layers of 16 million parameters."""
    layer_bytes = 4 * (4 * _WIDTH * _WIDTH + 3 * _WIDTH * 4 * _WIDTH)
    return ModelOptions(
        family=Family.QWEN3,
        num_layers=max(2, 2 * round(num_bytes / layer_bytes / 2)),
        hidden_size=_WIDTH,
        num_heads=16,
        num_kv_heads=16,
        head_dim=64,
        ffn_size=4 * _WIDTH,
        vocab_size=8192,
        max_context_tokens=4096,
    )


def write_source(model: ModelOptions, folder: Path) -> None:
    """A Hugging Face folder of random weights."""
    import torch

    from e3mega.checkpoint.hf import write_hf_folder

    generator = torch.Generator().manual_seed(1)
    tensors = (
        (each.name, torch.empty(each.shape).normal_(0.0, 0.02, generator=generator))
        for each in tensor_facts(model)
    )
    write_hf_folder(
        tensors,
        folder,
        model=model,
        lineage=Lineage("bench", 1, "bench", "", ()),
        description=None,
    )


def take_memory(folder: Path, num_bytes: int) -> None:
    """Fill as much of the page cache as a part will fill, and free it again.

    A virtual machine gives what is free back to its host and pays for every page that it takes
    anew: without this, the first part to write would write into memory that is there, the others
    into memory that is fetched.
    """
    path, block = folder / "taken", bytes(1 << 20)
    with path.open("wb") as file:
        for _ in range(num_bytes // len(block) + 64):
            file.write(block)
    path.unlink()


def run_part(part: str, folder: Path, tp: int, pp: int) -> dict[str, float]:
    """Do one part in this process; when it began, its seconds and the growth of its memory."""
    began_s = time.time()
    source, checkpoint, back = folder / "hf", folder / "checkpoint", folder / "back"
    take_memory(folder, sum(path.stat().st_size for path in source.iterdir()))
    memory = PeakMemory()
    start = time.perf_counter()
    if part == "read":
        for path in sorted(source.glob("*.safetensors")):
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass
    elif part == "copy":
        shutil.copytree(source, folder / "copy")
        for path in (folder / "copy").iterdir():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
    elif part == "import":
        from e3mega.checkpoint.convert import model_of

        layout = grid_of(model_of(source), tp=tp, pp=pp, ep=1)
        import_hf(source, checkpoint, layout, lambda num_bytes: None)
    else:
        export_checkpoint(checkpoint, back, lambda num_bytes: None)
    seconds = time.perf_counter() - start
    return {"began_s": began_s, "seconds": seconds, "peak_bytes": float(memory.grown_bytes())}


def _in_process(part: str, arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    words = [part, str(folder), str(arguments.tp), str(arguments.pp)]
    called_s = time.time()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--part", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {**found, "start_s": found["began_s"] - called_s}


def _turn(arguments: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Every part once; what they wrote is removed."""
    # Reading first gives every part a warm page cache.
    found = {part: _in_process(part, arguments, folder) for part in _PARTS}
    for name in _WRITTEN:
        shutil.rmtree(folder / name)
    return found


def _print(turns: list[dict[str, dict[str, float]]], num_bytes: int) -> None:
    copy_s = statistics.median(turn["copy"]["seconds"] for turn in turns)
    for part in _PARTS[1:]:
        seconds = sorted(turn[part]["seconds"] for turn in turns)
        median_s = statistics.median(seconds)
        peak = max(turn[part]["peak_bytes"] for turn in turns)
        print(
            f"{part:6}  {median_s:6.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f})  "
            f"{num_bytes / median_s / 1e6:6.0f} MB/s  {median_s / copy_s:5.2f} x copy  "
            f"peak {peak:,.0f} bytes more than at the start"
        )
    start_s = statistics.median(turn[part]["start_s"] for turn in turns for part in _PARTS)
    print(f"each call starts for {start_s:.1f} s before that: Python, torch, Megatron-Core")


def main(argv: list[str]) -> int:
    """Run every part and print a table."""
    if argv[:1] == ["--part"]:
        part, folder, tp, pp = argv[1:]
        print(json.dumps(run_part(part, Path(folder), int(tp), int(pp))))
        return 0
    parser = argparse.ArgumentParser(prog="bench_convert.py", description=__doc__)
    parser.add_argument("--bytes", type=int, default=1 << 30, help="size of the model")
    parser.add_argument("--tp", type=int, default=2, help="tensor-parallel ranks")
    parser.add_argument("--pp", type=int, default=2, help="pipeline-parallel ranks")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each part")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; on a disk")
    arguments = parser.parse_args(argv)
    model = bench_model(arguments.bytes)
    largest = max(each.num_bytes for each in tensor_facts(model))
    print(f"{model_bytes(model):,} bytes of float32, largest tensor {largest:,} bytes")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as work:
        folder = Path(work)
        write_source(model, folder / "hf")
        turns = [_turn(arguments, folder) for _ in range(arguments.repeats)]
    _print(turns, model_bytes(model))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
