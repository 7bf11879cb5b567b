"""Times the learner beside a bare Megatron-Core loop and beside transformers with torch.

``python tools/bench_learner.py [--model FRAGMENT] [--tokens N] [--bin N] ...`` trains the same
model on the same tokens in every loop, each in a process of its own forked from one that has the
libraries loaded. The loops take turns, so that a busy moment of the machine falls on all; the
table shows the median of the turns with their range, peak memory above what the process had
before it built the model, and on GPUs the share of the peak of bfloat16. Its last row has the
model's matrix products alone: a loop's share of it says what is left to gain.
"""

import argparse
import importlib
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

_MAX_SECONDS = 3600
SAME_START = ("e3mega learner", "Megatron-Core, bare")


def main(arguments: list[str] | None = None) -> None:
    """Run the loops and print the table."""
    options = _parser().parse_args(arguments)
    # Loaded once; every loop's process is forked with them.
    for module in ("bench_contenders", "transformers"):
        importlib.import_module(module)
    from bench_contenders import CONTENDERS

    names = [name for name in CONTENDERS if not options.only or options.only in name]
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for turn in range(options.repeats):
        for name in names if turn % 2 == 0 else reversed(names):
            turns[name].append(_measured(name, options))
    _check_losses(turns)
    report = {name: _summary(own) for name, own in turns.items()}
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    _print(report, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="model/qwen3-tiny", help="a model fragment's name")
    parser.add_argument("--tokens", type=int, default=16384, help="tokens of one step")
    parser.add_argument("--longest", type=int, default=128, help="tokens of the longest sequence")
    parser.add_argument("--bin", type=int, default=2048, help="tokens of a bin")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each loop")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of a loop")
    parser.add_argument("--gpu", action="store_true", help="on one GPU, in bfloat16")
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="of bfloat16 on the GPU")
    parser.add_argument("--only", default="", help="the loops whose name holds this")
    parser.add_argument("--json", help="write the numbers to this file too")
    return parser


def _measured(name: str, options: argparse.Namespace) -> dict[str, float]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(name, options, sender))
    process.start()
    sender.close()
    assert receiver.poll(_MAX_SECONDS), f"{name} gave no result within {_MAX_SECONDS} s"
    found = receiver.recv()
    process.join()
    return found


def _run(name: str, options: argparse.Namespace, sender: Any) -> None:
    import torch
    from bench_contenders import CONTENDERS, random_work
    from peak_memory import PeakMemory

    from e3mega.device import ProcessRank
    from e3mega.families.geometry import Precision
    from e3mega.mcore.parallel import init_parallel
    from e3mega.spec.schema.layout import Device, LearnerLayout

    device = Device.GPU if options.gpu else Device.CPU
    layout = LearnerLayout(device=device, threads_per_rank=options.threads)
    model = _model(options.model)
    if options.gpu:
        model = model.model_copy(update={"precision": Precision.BFLOAT16})
    work = random_work(
        model,
        num_tokens=options.tokens,
        longest=options.longest,
        packed_tokens=options.bin,
        seed=1,
    )
    with tempfile.TemporaryDirectory() as folder:
        grid = init_parallel(layout, ProcessRank(0, 1, 0), init_method=f"file://{folder}/store")
        memory = PeakMemory()
        step = CONTENDERS[name](work, grid)
        first_loss = step()
        seconds: list[float] = []
        for _ in range(options.steps):
            start = time.perf_counter()
            step()
            if options.gpu:
                torch.accelerator.synchronize()
            seconds.append(time.perf_counter() - start)
        own_bytes = memory.grown_bytes()
        peak = torch.accelerator.max_memory_allocated() if options.gpu else own_bytes
    sender.send(
        {
            "first_loss": first_loss,
            "tokens_per_s": work.num_tokens / statistics.median(seconds),
            "peak_bytes": peak,
            "flops_per_token": _flops(work),
        }
    )


def _check_losses(turns: dict[str, list[dict[str, float]]]) -> None:
    """The learner and Megatron start from the same weights: their first losses agree."""
    losses = [turn["first_loss"] for name in SAME_START for turn in turns.get(name, [])]
    # In bfloat16 the logits are rounded at other places.
    is_same = not losses or max(losses) - min(losses) < 0.01
    assert is_same, f"the loops do not train the same: {losses}"


def _model(fragment: str) -> Any:
    import yaml

    from e3mega.families.geometry import ModelOptions
    from e3mega.spec.files import LIBRARY

    path = Path(fragment)
    if not path.is_file():
        path = LIBRARY / "fragments" / f"{fragment}.yaml"
    section = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
    return ModelOptions.model_validate(section, strict=False)


def _flops(work: Any) -> float:
    """Operations of a token, forward and backward, attention within sequences counted."""
    from e3mega.plan.flops import forward_flops

    lengths = [len(sequence.token_ids) for sequence in work.sequences]
    return 3 * sum(forward_flops(work.model, length) for length in lengths) / sum(lengths)


def _summary(turns: list[dict[str, float]]) -> dict[str, float]:
    speeds = [turn["tokens_per_s"] for turn in turns]
    return {
        "tokens_per_s": statistics.median(speeds),
        "slowest": min(speeds),
        "fastest": max(speeds),
        "peak_bytes": max(turn["peak_bytes"] for turn in turns),
        "flops_per_token": turns[0]["flops_per_token"],
    }


def _print(report: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    first = next(iter(report.values()))["tokens_per_s"]
    for name, own in report.items():
        speed = own["tokens_per_s"]
        line = (
            f"{name:<22} {speed:9,.0f} tokens/s ({own['slowest']:,.0f} to {own['fastest']:,.0f})"
            f"  learner/this {first / speed:5.2f}  peak {own['peak_bytes'] / 2**20:7,.0f} MiB"
        )
        if options.gpu:
            share = speed * own["flops_per_token"] / (options.peak_tflops * 1e12)
            line += f"  {share:.1%} of peak"
        print(line)


if __name__ == "__main__":
    main()
