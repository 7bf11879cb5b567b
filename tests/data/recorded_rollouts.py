"""Plan and rollouts of the synthetic run: the task's own traces, cut at a budget and marked."""

import random

from e3mega.plan.compile import compile_plan
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, plan_to_json
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
from e3mega.spec.resolve import find_spec, resolve_spec
from e3mega.tasks.countdown.task import CountdownTask
from e3mega.tasks.interface import Task

ROUNDS = (0, 20, 39)
START_VERSION = {"easy": 300, "hard": 340}
EVALUATED_VERSIONS = {"easy": (300, 340), "hard": (380,)}
BUDGETS = {"easy": 64, "hard": 128}


def write_plan(paths: RunPaths, *, name: str, seed: int) -> Plan:
    """Write the plan of the quickstart: a warm-up and two RL stages."""
    spec = resolve_spec(find_spec("quickstart"), sets=[f"name={name}", f"seed={seed}"])
    plan = compile_plan(spec.options)
    paths.plan.parent.mkdir(parents=True, exist_ok=True)
    paths.plan.write_text(plan_to_json(plan))
    return plan


def write_rollouts(paths: RunPaths, plan: Plan, *, num_groups: int = 12) -> None:
    """Write three training rounds of each RL stage and the evaluation after it."""
    for stage in plan.stages[1:]:
        task = CountdownTask(stage.task, plan.seed)
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
