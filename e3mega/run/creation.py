"""Writes what a new run starts from: its plan, spec, key, and the model's configuration."""

import json
import os
import secrets

from e3mega.errors import E3Error
from e3mega.families.hf_config import hf_config
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, plan_to_json
from e3mega.rollout.shared import SharedStages
from e3mega.rollout.whole_file import write_whole
from e3mega.run.data_check import check_data
from e3mega.run.folder import shown, unwritable
from e3mega.run.shared_stages import share_stages
from e3mega.tasks.catalog import build_task, provide_tokenizer

_KEY_BYTES = 32


def create_folder(
    plan: Plan, resolved_text: str, paths: RunPaths, *, source: RunPaths | None = None
) -> SharedStages | None:
    """Write what a run starts from; plan.json comes last and makes the folder a run.

    With a ``source``, a run of which this one shares stages, it begins behind them; what it shares
    is returned. Raises E3Error when the folder holds a run already or cannot be written, or the
    runs share nothing.
    """
    run_dir = paths.run_dir
    if paths.plan.exists():
        raise E3Error(
            f"{shown(run_dir)} holds a run already; continue it with `e3mega resume "
            f"{shown(run_dir)}`, or choose "
            "another folder with --run-dir"
        )
    known = {paths.lock, paths.key, paths.resolved, paths.model_dir, paths.checkpoints}
    known |= {paths.metrics("loop").parent, paths.shared_stages}
    foreign = [path.name for path in run_dir.iterdir() if path not in known]
    if foreign:
        raise E3Error(
            f"{shown(run_dir)} is not empty (it holds {sorted(foreign)[0]}) and is no run; "
            "choose another folder with --run-dir"
        )
    try:
        return _write(plan, resolved_text, paths, source)
    except OSError as error:
        raise unwritable(run_dir, error) from error


def _write(
    plan: Plan, resolved_text: str, paths: RunPaths, source: RunPaths | None
) -> SharedStages | None:
    paths.key.unlink(missing_ok=True)
    key = os.open(paths.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(key, "w") as file:
        file.write(secrets.token_hex(_KEY_BYTES) + "\n")
    write_whole(paths.resolved, resolved_text.encode())
    paths.model_dir.mkdir(exist_ok=True)
    provide_tokenizer(plan.stages[0].task, plan.model.hf_path, plan.seed, paths.model_dir)
    # Data that cannot be read are found here, before any job starts.
    tasks = [build_task(stage.task, plan.seed, paths.model_dir) for stage in plan.stages]
    check_data(plan, tasks)
    config = {**hf_config(plan.model), "eos_token_id": tasks[0].end_token_ids[0]}
    write_whole(paths.model_config, (json.dumps(config, indent=2) + "\n").encode())
    shared = None if source is None else share_stages(plan, paths, source)
    write_whole(paths.plan, plan_to_json(plan).encode())
    return shared
