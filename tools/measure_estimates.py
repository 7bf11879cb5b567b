"""Prints the ``estimates`` section of a spec as a finished run measured it.

``python tools/measure_estimates.py RUN``. Of every stage of reinforcement learning it compares
what the run logged with what the planner's formulas say at the mean length that was seen.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from e3mega.plan.estimate import num_scoring_passes
from e3mega.plan.flops import forward_flops
from e3mega.plan.machines import device_row
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, StagePlan, read_plan
from e3mega.plan.timing import Load, passes_per_step
from e3mega.plan.topology import num_learner_ranks
from e3mega.spec.schema.curriculum import StageMode
from e3mega.spec.schema.estimates import EstimateOptions
from e3mega.spec.schema.layout import Device
from e3mega.tasks.sizes import max_prompt_tokens

Events = dict[tuple[str, str], list[dict[str, float]]]


def read_events(path: Path) -> Events:
    """The lines of a metrics file by event and stage."""
    found: Events = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found[row["event"], row.get("stage", "")].append(row)
    return found


def measured(plan: Plan, stage: StagePlan, events: Events) -> dict[str, float]:
    """What one stage says of the assumptions."""
    steps, rounds = events["step", stage.name], events["round", stage.name]
    budget = fmean(each["budget_tokens"] for each in events["stage_started", stage.name])
    num_sequences = stage.rollout.prompts_per_step * stage.rollout.samples_per_prompt
    mean = fmean(each["tokens_trained"] for each in steps) / num_sequences
    prompt = max_prompt_tokens(stage.task)
    passes = passes_per_step(stage.learner, num_scoring=num_scoring_passes(stage))
    flops = passes * num_sequences * forward_flops(plan.model, prompt + mean)
    assumed = EstimateOptions()
    learner = device_row(stage.learner.device, assumed)
    threads = stage.learner.threads_per_rank if stage.learner.device is Device.CPU else 1
    peak = learner.peak_flops * threads * num_learner_ranks(stage.learner)
    per_round = num_sequences * stage.rollout.steps_per_round
    load = Load(per_round // plan.layout.generation.num_replicas, prompt, mean, int(budget))
    decode = load.slowest_tokens * device_row(plan.layout.generation.device, assumed).decode_step_s
    learning_s = fmean(each["train_s"] for each in rounds) / stage.rollout.steps_per_round
    return {
        "completion_frac": mean / budget,
        "learner_frac": flops / learning_s / peak,
        "overhead_factor": fmean(each["generation_s"] for each in rounds) / decode,
    }


def main() -> None:
    """Print the section, each value the mean of the stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    paths = RunPaths(parser.parse_args().run)
    plan, events = read_plan(paths.plan), read_events(paths.metrics("loop"))
    stages = [
        measured(plan, stage, events)
        for stage in plan.stages
        if stage.mode is StageMode.RL and events["step", stage.name]
    ]
    if not stages:
        parser.error("the run has finished no step of reinforcement learning")
    print(f"# as measured by {plan.name}, {len(stages)} stages")
    print("estimates:")
    for name in stages[0]:
        print(f"  {name}: {fmean(stage[name] for stage in stages):.3g}")


if __name__ == "__main__":
    main()
