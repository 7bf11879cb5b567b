"""The recorded small runs as run folders that a report reads; ``record_runs`` made them."""

import json
import shutil
from pathlib import Path

from e3mega.plan.compile import compile_plan
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import plan_to_json
from e3mega.spec.resolve import resolve_spec
from e3mega.tasks.catalog import provide_tokenizer

FOLDER = Path(__file__).parent / "recorded"
SPECS = FOLDER / "specs"
BASE = FOLDER / "countdown-base"
"""The model that the Countdown runs start from, in bfloat16."""
SETTINGS = "settings.json"
"""A recorded run's seed."""


def recorded(name: str, folder: Path) -> Path:
    """A copy below ``folder`` of a recorded run or measurement.

    A run's plan and tokenizer are made anew from its spec, so that a change of the plan's form
    does not spoil the recording.
    """
    target = folder / name
    shutil.copytree(FOLDER / name, target)
    settings, spec = target / SETTINGS, SPECS / f"{name}.yaml"
    if settings.exists():
        # Whatever stands for the base that the run started from; the report does not open it.
        sets = [f"seed={json.loads(settings.read_text())['seed']}"]
        sets += [] if name == "quickstart" else ["model.hf_path=base"]
        plan, paths = compile_plan(resolve_spec(spec, sets=sets).options), RunPaths(target)
        paths.plan.write_text(plan_to_json(plan))
        paths.model_dir.mkdir()
        provide_tokenizer(plan.stages[0].task, None, plan.seed, paths.model_dir)
    return target
