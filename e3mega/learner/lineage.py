"""Where a learner's weights come from, as its checkpoints and exports say it."""

from e3mega.checkpoint.manifest import Lineage, TrainedStage
from e3mega.plan.planfile import Plan


def lineage(plan: Plan, steps: dict[str, int]) -> Lineage:
    """Where the learner's weights come from, given the steps taken in each stage."""
    return Lineage(
        name=plan.name,
        seed=plan.seed,
        e3mega_version=plan.e3mega_version,
        run_fingerprint=plan.run_fingerprint,
        stages=tuple(
            TrainedStage(
                name=stage.name,
                fingerprint=stage.fingerprint,
                num_steps=steps[stage.name],
                data=stage.task.model_dump(mode="json"),
                temperature=stage.generation.temperature,
            )
            for stage in plan.stages
            if stage.name in steps
        ),
    )
