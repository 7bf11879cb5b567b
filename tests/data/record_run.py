"""Keeps what the report reads of a finished quickstart: ``python -m tests.data.record_run RUN``.

The events, every few rounds of rollouts without their log-probabilities, and the seed go to
``tests/data/recorded``; ``make quickstart`` makes a RUN. ``recorded_run`` gives it back.
"""

import argparse
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from e3mega.plan.compile import compile_plan
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import plan_to_json, read_plan
from e3mega.rollout.rows import SCHEMA
from e3mega.spec.resolve import find_spec, resolve_spec
from e3mega.tasks.catalog import provide_tokenizer

RECORDED = Path(__file__).parent / "recorded"
SEED = "seed.json"
ROUNDS = 4
"""Rounds of a stage whose rollouts are kept, spread evenly."""


def keep_run(source: RunPaths) -> None:
    """Replace the recording by this run."""
    kept = RunPaths(RECORDED)
    shutil.rmtree(RECORDED, ignore_errors=True)
    kept.metrics("loop").parent.mkdir(parents=True)
    shutil.copy(source.metrics("loop"), kept.metrics("loop"))
    for folder in sorted(each for each in source.rollouts_for("train").iterdir() if each.is_dir()):
        files = sorted(folder.glob("*.parquet"))
        places = {round(i * (len(files) - 1) / (ROUNDS - 1)) for i in range(ROUNDS)}
        for file in (files[place] for place in sorted(places) if files):
            target = kept.rollouts_for("train") / folder.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            _keep_round(file, target)
    (RECORDED / SEED).write_text(json.dumps(read_plan(source.plan).seed) + "\n")


def _keep_round(file: Path, target: Path) -> None:
    """A round whose log-probabilities, which no figure reads, are zeros."""
    table = pq.read_table(file, schema=SCHEMA)
    place = table.schema.get_field_index("logprobs")
    zeros = [[0.0] * len(tokens) for tokens in table["token_ids"].to_pylist()]
    values = pa.array(zeros, SCHEMA.field(place).type)
    pq.write_table(table.set_column(place, SCHEMA.field(place), values), target, compression="zstd")


def recorded_run(run_dir: Path) -> Path:
    """The recording as a run folder.

    Its plan and tokenizer are made anew, so that a change of the plan's form does not spoil it.
    """
    shutil.copytree(RECORDED, run_dir)
    seed = json.loads((run_dir / SEED).read_text())
    plan = compile_plan(resolve_spec(find_spec("quickstart"), sets=[f"seed={seed}"]).options)
    paths = RunPaths(run_dir)
    paths.plan.write_text(plan_to_json(plan))
    paths.model_dir.mkdir()
    provide_tokenizer(plan.stages[0].task, None, plan.seed, paths.model_dir)
    return run_dir


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    keep_run(RunPaths(parser.parse_args().run))
