"""The loop's process: ``python -m e3mega.loop.wiring RUN_DIR ATTEMPT``."""

import asyncio
import json
import sys
from pathlib import Path

from e3mega.checkpoint.manifest import newest_complete
from e3mega.errors import E3Error
from e3mega.generation.client import GenerationClient
from e3mega.loop.controller import Controller
from e3mega.loop.jobs import Jobs
from e3mega.loop.leave import asked_by_signal, run_or_leave
from e3mega.loop.state import LoopState, read_state
from e3mega.loop.tier import Tier
from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import LEFT_STATUS, Plan, read_plan
from e3mega.plan.set_caps import with_caps
from e3mega.rollout.channel import CommandSender
from e3mega.tasks.catalog import build_task


def first_state(paths: RunPaths, metrics: MetricsWriter) -> LoopState:
    """Where the loop begins: the newest complete checkpoint, or the start of the plan."""
    newest = newest_complete(paths)
    state = LoopState()
    if newest.folder is not None:
        state = read_state(paths.loop_state(newest.folder))
        metrics.write("attempt_resumed", version=state.version, checkpoint=newest.folder.name)
    for each in newest.passed_over:
        metrics.write("checkpoint_passed_over", checkpoint=each.name, reason=each.reason)
    return state


def build_jobs(
    plan: Plan, paths: RunPaths, attempt: int, metrics: MetricsWriter, *, segment: int
) -> Jobs:
    """What the loop of one attempt works with, the learner being that of a segment."""
    tasks = tuple(build_task(stage.task, plan.seed, paths.model_dir) for stage in plan.stages)
    servers = tuple(
        GenerationClient(
            address_file=paths.address(replica),
            key=paths.key.read_text().strip(),
            end_token_ids=tasks[0].end_token_ids,
            deadline_s=plan.stages[0].generation.request_deadline_s,
        )
        for replica in range(plan.num_servers)
    )

    def open_learner(segment: int) -> CommandSender:
        return CommandSender(paths.attempt_commands(attempt, segment))

    return Jobs(
        plan=plan,
        paths=paths,
        tasks=tasks,
        learner=open_learner(segment),
        open_learner=open_learner,
        tier=Tier(
            servers,
            metrics,
            start_deadline_s=plan.stages[0].generation.start_deadline_s,
        ),
        metrics=metrics,
    )


async def run_loop(plan: Plan, paths: RunPaths, attempt: int, metrics: MetricsWriter) -> bool:
    """Run the plan to its end, or leave at a checkpoint when asked to; whether it left.

    Raises E3Error with the reason if it can do neither.
    """
    asked = asked_by_signal()
    metrics.write(
        "run_started",
        name=plan.name,
        seed=plan.seed,
        fingerprint=plan.run_fingerprint,
        attempt=attempt,
    )
    state = first_state(paths, metrics)
    segment = plan.stages[state.stage_index].segment
    jobs = build_jobs(plan, paths, attempt, metrics, segment=segment)
    try:
        return await run_or_leave(Controller(jobs, state), asked)
    finally:
        await jobs.tier.close()
        for task in jobs.tasks:
            await task.close()


def main(argv: list[str]) -> int:
    """Run the loop of a run folder; the reason of a failure is the last line on stderr."""
    run_dir, attempt = Path(argv[0]), int(argv[1])
    paths = RunPaths(run_dir)
    metrics = MetricsWriter(paths.metrics("loop"))
    try:
        plan = with_caps(read_plan(paths.plan), paths.set_caps)
        has_left = asyncio.run(run_loop(plan, paths, attempt, metrics))
    except E3Error as error:
        metrics.write("run_failed", reason=str(error))
        print(json.dumps({"reason": str(error)}), file=sys.stderr)
        return error.exit_code
    finally:
        metrics.close()
    return LEFT_STATUS if has_left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
