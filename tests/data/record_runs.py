"""Trains small runs and keeps what the report reads of them: ``python -m`` this, NAME...

Without names everything is made, in order: about 70 minutes on two cores. Work is done in
``runs/recorded``; a run that is finished there is not trained again. What is kept goes to
``tests/data/recorded``, under 6 MB in all: events, a few rounds of rollouts without their
log-probabilities, the seed, and what measuring commands wrote. ``recorded_runs`` gives it back.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from e3mega.plan.paths import GradePaths, RunPaths
from e3mega.plan.planfile import read_plan
from e3mega.rollout.rows import SCHEMA
from tests.data.recorded_runs import BASE, FOLDER, SETTINGS, SPECS

ROOT = Path(__file__).parents[2]
WORK = ROOT / "runs" / "recorded"
ROUNDS, GROUPS = 4, 32
"""Rounds of a stage that are kept, spread evenly, and groups of each of them."""
COUNTDOWN_RUNS = (
    *("grpo", "masked", "short", "easy", "mostly-easy"),
    *("curriculum", "data-only", "budget-only"),
)
PLAIN_RUNS = ("multiplication", "multiplication-masked", "multiplication-long")
VERIFIED_RUNS = (
    *("multiplication-verified", "multiplication-verified-masked"),
    "multiplication-verified-long",
)
BASES = {
    **dict.fromkeys(COUNTDOWN_RUNS, "countdown-base"),
    **dict.fromkeys(PLAIN_RUNS, "multiplication-base"),
    **dict.fromkeys(VERIFIED_RUNS, "multiplication-verified-base"),
}
"""The run whose export each run starts from; of bases, Countdown's weights alone are kept."""
RUNS = ("quickstart", *BASES)
COUNTED = ("quickstart", "grpo", "masked", "short", "curriculum", "data-only")
"""Runs whose attempts a figure counts; of the others it reads the last lengths alone."""
MODELS = ("countdown-base", "grpo", "masked", "short")
COUNTDOWN = ("--task", "countdown-3", "--cache", str(WORK / "completions"))
ASYMMETRY = (
    *("--problems", "48", "--samples", "4", "--max-tokens", "256", "--temperature", "1"),
    *("--top-p", "1", "--answers", "4", "--answer-tokens", "12", "--scored", "48"),
)
EVALUATION = (
    *("--budgets", "32,64,128,256", "--training-budget", "128", "--problems", "96"),
    *("--samples", "4", "--separate"),
    # A trace of its own language that gives up says "none".
    *("--waits", "3", "--wait-text", "", "--end-of-thinking", "none"),
)
MEASURED = {
    "evaluation": ("eval", *MODELS, *COUNTDOWN, *EVALUATION),
    "asymmetry-base": ("asymmetry", "countdown-base", *COUNTDOWN, *ASYMMETRY),
    "asymmetry-grpo": ("asymmetry", "grpo", *COUNTDOWN, *ASYMMETRY),
}


def command(*words: str) -> None:
    """Run e3mega; its output is shown."""
    subprocess.run([sys.executable, "-m", "e3mega.cli", *words], cwd=ROOT, check=True)


def train(name: str) -> None:
    """Train a run, and its base before it, unless they are finished; keep the run."""
    paths = RunPaths(WORK / name)
    if not paths.export.exists():
        shutil.rmtree(paths.run_dir, ignore_errors=True)
        sets: list[str] = []
        if name in BASES:
            train(BASES[name])
            sets = ["--set", f"model.hf_path={RunPaths(WORK / BASES[name]).export}"]
        command("run", str(SPECS / f"{name}.yaml"), "--run-dir", str(paths.run_dir), *sets)
    if name not in BASES.values():
        keep_run(name, paths)
    elif name == BASE.name:
        keep_base(paths)


def keep_run(name: str, paths: RunPaths) -> None:
    """Replace a run's recording: the events, some rounds of rollouts, and the seed."""
    kept = RunPaths(FOLDER / name)
    shutil.rmtree(kept.run_dir, ignore_errors=True)
    kept.metrics("loop").parent.mkdir(parents=True)
    shutil.copy(paths.metrics("loop"), kept.metrics("loop"))
    for file in _counted(paths) if name in COUNTED else [_newest(paths)]:
        target = kept.rollouts / file.relative_to(paths.rollouts)
        target.parent.mkdir(parents=True, exist_ok=True)
        keep_round(file, target)
    (kept.run_dir / SETTINGS).write_text(json.dumps({"seed": read_plan(paths.plan).seed}) + "\n")


def _counted(paths: RunPaths) -> list[Path]:
    """A few rounds of every stage and of every measurement."""
    found: list[Path] = []
    for purpose in ("train", "evaluate"):
        for folder in sorted(paths.rollouts_for(purpose).glob("*")):
            files = sorted(folder.glob("*.parquet"))
            places = {round(i * (len(files) - 1) / (ROUNDS - 1)) for i in range(ROUNDS)}
            found += [files[place] for place in sorted(places) if files]
    return found


def _newest(paths: RunPaths) -> Path:
    """The last measured round; folders are named by stage and version."""
    found = paths.rollouts_for("evaluate").rglob("*.parquet")
    return max(found, key=lambda file: file.parent.name.rpartition("_v")[2])


def keep_base(paths: RunPaths) -> None:
    """Replace the model that tests on real servers measure; half its size is rounded away."""
    shutil.rmtree(BASE, ignore_errors=True)
    shutil.copytree(paths.export, BASE, ignore=shutil.ignore_patterns("README.md"))
    for file in BASE.glob("*.safetensors"):
        weights = {name: value.to(torch.bfloat16) for name, value in load_file(file).items()}
        save_file(weights, file, metadata={"format": "pt"})


def keep_round(file: Path, target: Path) -> None:
    """A round's first groups; their log-probabilities, which no figure reads, become zeros."""
    table = pq.read_table(file, schema=SCHEMA)
    table = table.filter(pc.less(table["index"], GROUPS))
    zeros = [[0.0] * len(tokens) for tokens in table["token_ids"].to_pylist()]
    place = table.schema.get_field_index("logprobs")
    values = pa.array(zeros, SCHEMA.field(place).type)
    pq.write_table(table.set_column(place, SCHEMA.field(place), values), target, compression="zstd")


def measure(name: str) -> None:
    """Measure models with one of the commands that do, and keep what it wrote."""
    kind, *words = MEASURED[name]
    models = [str(WORK / word) if word in MODELS else word for word in words]
    command(kind, *models, "--out", str(WORK / name))
    kept = FOLDER / name
    shutil.rmtree(kept, ignore_errors=True)
    if kind == "asymmetry":
        kept.mkdir(parents=True)
        content = json.loads(GradePaths(WORK / name).asymmetry.read_text())
        content["model"] = f"runs/recorded/{words[0]}"
        GradePaths(kept).asymmetry.write_text(json.dumps(content, indent=2) + "\n")
        return
    for folder in sorted((WORK / name).iterdir()):
        source = RunPaths(folder).metrics("loop")
        if source.exists():
            target = RunPaths(kept / folder.name).metrics("loop")
            target.parent.mkdir(parents=True)
            shutil.copy(source, target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    for each in parser.parse_args().names or (*RUNS, *MEASURED):
        (measure if each in MEASURED else train)(each)
