"""Runs whose jobs are small Python scripts, and ways to look at what they leave."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from e3mega.curriculum.options import DataOptions, FixedBudget, StepsExit, TokenCaps
from e3mega.families.geometry import Family, ModelOptions
from e3mega.objective.options import LossOptions
from e3mega.plan.planfile import BudgetPlan, JobPlan, Plan, Role, ServerPlan, StagePlan
from e3mega.spec.schema.cluster import ClusterOptions
from e3mega.spec.schema.curriculum import StageMode
from e3mega.spec.schema.evaluation import EvaluationOptions
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import LayoutOptions, LearnerLayout
from e3mega.spec.schema.optimizer import OptimizerOptions
from e3mega.spec.schema.rollout import RolloutOptions
from e3mega.spec.schema.run import CheckpointOptions, LoggingOptions
from e3mega.tasks.countdown.options import CountdownOptions

STARTS = "import os, pathlib, signal, subprocess, sys, time\nrun_dir = pathlib.Path(sys.argv[1])\n"
"""First lines of every fake job."""
WAITS = "time.sleep(60)\n"
LEAVES = "pass\n"
SPAWNS = (
    "for _ in range(2):\n"
    "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],\n"
    "                             start_new_session=True)\n"
    "    (run_dir / f'grandchild_{child.pid}').touch()\n"
)
"""Grandchildren in sessions of their own, which know nothing of parents that die."""
MAPS = (
    "from multiprocessing import resource_tracker, shared_memory\n"
    "segment = shared_memory.SharedMemory(create=True, size=64)\n"
    "resource_tracker.unregister(segment._name, 'shared_memory')\n"
    "(run_dir / 'segment').write_text(segment.name)\n"
)
"""Shared memory that nobody removes when the job is killed."""
STEADY = {"generation_0": WAITS, "learner": WAITS, "loop": WAITS}
"""Jobs that would wait for a minute."""

_ROLES = {role.value: role for role in Role}


def fake_stage(name: str, mode: StageMode) -> StagePlan:
    return StagePlan(
        name=name,
        index=0,
        fingerprint="0",
        mode=mode,
        budget=FixedBudget(kind="fixed", tokens=64),
        budgets=(BudgetPlan(64, 80, 2048, 25, 0.0),),
        exit=StepsExit(kind="steps", steps=10),
        max_steps=10,
        data=DataOptions(),
        caps=TokenCaps(),
        learner=LearnerLayout(),
        segment=0,
        task=CountdownOptions(kind="countdown"),
        rollout=RolloutOptions(),
        loss=LossOptions(),
        generation=GenerationOptions(),
        optimizer=OptimizerOptions(),
        evaluation=EvaluationOptions(budgets=(32, 64, 128, 256), pass_budget_tokens=128),
    )


def fake_plan(scripts: dict[str, str], env: dict[str, str] | None = None) -> Plan:
    """A plan whose jobs are these scripts; each is called with the run folder and the attempt."""
    stage = fake_stage("warm-up", StageMode.SUPERVISED)
    return Plan(
        e3mega_version="0",
        name="fake",
        seed=1,
        run_fingerprint="0",
        model=ModelOptions(
            family=Family.QWEN3,
            num_layers=1,
            hidden_size=8,
            num_heads=2,
            num_kv_heads=1,
            head_dim=4,
            ffn_size=16,
            vocab_size=128,
            max_context_tokens=512,
        ),
        layout=LayoutOptions(),
        server=ServerPlan(272, 8, 2048, 1 << 20),
        stages=(stage, fake_stage("easy", StageMode.RL)),
        caps=TokenCaps(),
        jobs=tuple(
            JobPlan(
                name=name,
                role=_ROLES[name.split("_")[0]],
                argv=("{python}", "-c", STARTS + script, "{run_dir}", "{attempt}"),
                env=env or {},
                num_devices=1,
            )
            for name, script in scripts.items()
        ),
        checkpoint=CheckpointOptions(),
        logging=LoggingOptions(),
        num_parameters=1,
        sync_bytes=4,
        warnings=(),
        cluster=ClusterOptions(),
    )


def command_of(plan_file: Path, run_dir: Path) -> list[str]:
    """What starts a run of the plan in a process of its own, as `e3mega run` does."""
    program = (
        "import sys; from pathlib import Path\n"
        "from e3mega.errors import E3Error\n"
        "from e3mega.plan.planfile import read_plan\n"
        "from e3mega.run.local import start_run\n"
        "try: sys.exit(start_run(read_plan(Path(sys.argv[1])), 'seed: 1\\n', Path(sys.argv[2])))\n"
        "except E3Error as error: sys.exit(f'e3mega: {error}')\n"
    )
    return [sys.executable, "-c", program, str(plan_file), str(run_dir)]


def resume_command(run_dir: Path) -> list[str]:
    """What resumes a run in a process of its own, as `e3mega resume` does."""
    program = (
        "import sys; from pathlib import Path; from e3mega.run.local import resume_run\n"
        "sys.exit(resume_run(Path(sys.argv[1])))\n"
    )
    return [sys.executable, "-c", program, str(run_dir)]


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start a command with its output in one pipe."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> list[str]:
    """Wait for the command; the lines it printed."""
    output, _ = process.communicate(timeout=180)
    return output.splitlines()


def wait_for(condition: Callable[[], bool], seconds: float = 150.0) -> None:
    """Wait until the condition holds; long, for the machine may be busy."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def processes_of(run_dir: Path, *words: str) -> list[psutil.Process]:
    """Living processes that name the run folder, and the grandchildren noted in it.

    Those alone that have all the words in their command lines.
    """
    noted = {int(path.name.split("_")[1]) for path in run_dir.glob("grandchild_*")}
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            is_ours = process.pid in noted or str(run_dir) in line
            if is_ours and set(words) <= set(line) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def attempts_of(run_dir: Path) -> list[dict[str, object]]:
    """The lines of attempts.jsonl."""
    return [json.loads(line) for line in (run_dir / "attempts.jsonl").read_text().splitlines()]
