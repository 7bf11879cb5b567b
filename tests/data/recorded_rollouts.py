"""Plan and rollouts of the synthetic run: the task's own traces, cut at a budget and marked."""

import random

from e3mega.curriculum.options import CoupledBudget, FixedBudget, RecognitionExit, StepsExit
from e3mega.families.geometry import Family, ModelOptions
from e3mega.objective.options import LossOptions
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import BudgetPlan, Plan, ServerPlan, StagePlan, plan_to_json
from e3mega.rollout.buffer import GroupStore
from e3mega.rollout.records import (
    Completion,
    FinishReason,
    Group,
    GroupRequest,
    Purpose,
    Rollout,
    VersionSpan,
)
from e3mega.spec.schema.curriculum import StageMode
from e3mega.spec.schema.evaluation import EvaluationOptions
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import LayoutOptions
from e3mega.spec.schema.optimizer import OptimizerOptions
from e3mega.spec.schema.rollout import RolloutOptions
from e3mega.spec.schema.run import CheckpointOptions, LoggingOptions
from e3mega.tasks.catalog import build_task
from e3mega.tasks.countdown import CountdownOptions, Half
from e3mega.tasks.interface import Task
from e3mega.tasks.sizes import vocabulary_size

ROUNDS = (0, 20, 39)
START_VERSION = {"easy": 300, "hard": 340}
EVALUATED_VERSIONS = {"easy": (300, 340), "hard": (380,)}
BUDGETS = {"easy": 64, "hard": 128}


def write_plan(paths: RunPaths, *, name: str, seed: int) -> Plan:
    """Write a plan of a warm-up and two RL stages; what no figure reads is left at defaults."""
    task = CountdownOptions(kind="countdown", held_out_frac=0.5)
    model = ModelOptions(
        family=Family.QWEN3,
        num_layers=3,
        hidden_size=128,
        num_heads=4,
        num_kv_heads=2,
        head_dim=32,
        ffn_size=384,
        vocab_size=vocabulary_size(task),
        max_context_tokens=512,
    )
    coupled = CoupledBudget(kind="coupled", candidates=(32, 64, 128))
    exits = (
        RecognitionExit(kind="recognition", max_steps=300),
        *[StepsExit(kind="steps", steps=40)] * 2,
    )
    budgets = (*[FixedBudget(kind="fixed", tokens=tokens) for tokens in (128, 64)], coupled)
    names, modes = ("warmup", "easy", "hard"), (StageMode.SUPERVISED, StageMode.RL, StageMode.RL)
    halves = (Half.ALL, Half.EASY, Half.HARD)
    stages = tuple(
        StagePlan(
            name=names[index],
            index=index,
            fingerprint=f"{index}" * 64,
            mode=modes[index],
            budget=budgets[index],
            budgets=(BudgetPlan(128, 140, 2048, 14),),
            exit=exits[index],
            max_steps=300 if index == 0 else 40,
            task=task.model_copy(update={"half": halves[index]}),
            rollout=RolloutOptions(),
            loss=LossOptions(),
            generation=GenerationOptions(),
            optimizer=OptimizerOptions(),
            evaluation=EvaluationOptions(budgets=(32, 64, 128, 256), pass_budget_tokens=128),
        )
        for index in range(3)
    )
    plan = Plan(
        e3mega_version="0.1.0",
        name=name,
        seed=seed,
        run_fingerprint="0" * 64,
        model=model,
        layout=LayoutOptions(),
        server=ServerPlan(300, 256, 2048, 2**28),
        stages=stages,
        jobs=(),
        checkpoint=CheckpointOptions(),
        logging=LoggingOptions(),
        num_parameters=654_976,
        sync_bytes=2_619_904,
        warnings=(),
    )
    paths.plan.parent.mkdir(parents=True, exist_ok=True)
    paths.plan.write_text(plan_to_json(plan))
    return plan


def write_rollouts(paths: RunPaths, plan: Plan, *, num_groups: int = 12) -> None:
    """Write three training rounds of each RL stage and the evaluation after it."""
    for stage in plan.stages[1:]:
        task = build_task(stage.task, plan.seed)
        budget = BUDGETS[stage.name]
        start = START_VERSION[stage.name]
        for round_number in ROUNDS:
            groups = [
                _group(task, index, budget, start + round_number) for index in range(num_groups)
            ]
            _write_round(paths, task, Purpose.TRAIN, stage.name, round_number, groups)
        for version in EVALUATED_VERSIONS[stage.name]:
            groups = [_group(task, index, 256, version) for index in range(num_groups)]
            folder = f"{stage.name}_v{version:06d}"
            _write_round(paths, task, Purpose.EVALUATE, folder, 0, groups)


def _write_round(
    paths: RunPaths,
    task: Task,
    purpose: Purpose,
    stage: str,
    round_number: int,
    groups: list[Group],
) -> None:
    store = GroupStore(paths, purpose=purpose, stage=stage, round=round_number, text=task.text)
    store.begin([group.request for group in groups])
    store.close(groups)


def _group(task: Task, index: int, budget: int, version: int) -> Group:
    """A supervised trace as the one rollout of its prompt; some verdicts are wrong."""
    number = 100 * version + index
    trace = task.trace(number)
    draw = random.Random(number)
    token_ids = list(trace.token_ids)
    ends = task.mark(trace.prompt, token_ids).attempts_at
    if ends and draw.random() < 0.2:
        verdicts = {token_ids[end - 1] for end in ends}
        if len(verdicts) == 2:
            at = draw.choice(ends) - 1
            token_ids[at] = next(iter(verdicts - {token_ids[at]}))
    is_cut = len(token_ids) > budget or draw.random() < 0.3
    cut = min(len(token_ids), budget)
    token_ids = token_ids[: cut - draw.randrange(cut // 2) if is_cut else cut]
    request = GroupRequest(
        index=index,
        prompt=trace.prompt,
        num_samples=1,
        max_tokens=len(token_ids) if is_cut else budget,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        seed=number,
        version=version,
    )
    completion = Completion(
        tuple(token_ids),
        tuple(round(-abs(draw.gauss(0.0, 0.4)), 3) for _ in token_ids),
        FinishReason.LENGTH if is_cut else FinishReason.STOP,
        (VersionSpan(request.version, 0, len(token_ids)),),
    )
    return Group(request, (Rollout(completion, task.mark(trace.prompt, token_ids)),))
