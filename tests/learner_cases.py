"""A tiny plan and recorded batches for tests of the learner."""

import numpy as np

from e3mega.curriculum.options import DataOptions, FixedBudget, StepsExit, TokenCaps
from e3mega.families.geometry import Family, ModelOptions
from e3mega.objective.advantage import GroupMean
from e3mega.objective.options import LossOptions
from e3mega.plan.planfile import BudgetPlan, Plan, ServerPlan, StagePlan
from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.bins import BinRules
from e3mega.rollout.packing import pack
from e3mega.rollout.records import (
    Completion,
    FinishReason,
    Group,
    GroupRequest,
    Rollout,
    TrainSequence,
    VersionSpan,
)
from e3mega.spec.schema.cluster import ClusterOptions
from e3mega.spec.schema.curriculum import StageMode
from e3mega.spec.schema.evaluation import EvaluationOptions
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import LayoutOptions, LearnerLayout
from e3mega.spec.schema.optimizer import LearningRateSchedule, OptimizerOptions
from e3mega.spec.schema.rollout import RolloutOptions
from e3mega.spec.schema.run import CheckpointOptions, LoggingOptions
from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.failure import Failure
from e3mega.tasks.interface import Marks, Prompt

VOCAB_SIZE = 64


def tiny_model(*, ties_embeddings: bool = True, num_layers: int = 4) -> ModelOptions:
    """Four layers, 64 wide, four query heads on two key-value heads."""
    return ModelOptions(
        family=Family.QWEN3,
        num_layers=num_layers,
        hidden_size=64,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        ffn_size=96,
        vocab_size=VOCAB_SIZE,
        max_context_tokens=512,
        ties_embeddings=ties_embeddings,
        init_std=0.05,
    )


def tiny_plan(
    layout: LearnerLayout | None = None,
    *,
    model: ModelOptions | None = None,
    loss: LossOptions | None = None,
    seed: int = 1,
) -> Plan:
    """A plan with one RL stage called ``easy``."""
    stage = StagePlan(
        name="easy",
        index=0,
        fingerprint="0" * 64,
        mode=StageMode.RL,
        budget=FixedBudget(kind="fixed", tokens=32),
        budgets=(BudgetPlan(32, 48, 128, 2, 0.0),),
        exit=StepsExit(kind="steps", steps=40),
        max_steps=40,
        data=DataOptions(),
        caps=TokenCaps(),
        learner=layout or LearnerLayout(),
        segment=0,
        task=CountdownOptions(kind="countdown"),
        rollout=RolloutOptions(packed_tokens=128),
        loss=loss or LossOptions(advantage=GroupMean(kind="group_mean")),
        generation=GenerationOptions(temperature=0.9),
        optimizer=OptimizerOptions(
            learning_rate=2e-3,
            schedule=LearningRateSchedule.COSINE,
            warmup_steps=3,
            weight_decay=0.01,
        ),
        evaluation=EvaluationOptions(budgets=(32,), pass_budget_tokens=32),
    )
    return Plan(
        e3mega_version="test",
        name="tiny",
        seed=seed,
        run_fingerprint="0" * 64,
        model=model or tiny_model(),
        layout=LayoutOptions(learner=layout or LearnerLayout()),
        server=ServerPlan(512, 16, 512, 1 << 24),
        stages=(stage,),
        caps=TokenCaps(),
        jobs=(),
        checkpoint=CheckpointOptions(),
        logging=LoggingOptions(),
        num_parameters=0,
        sync_bytes=0,
        warnings=(),
        cluster=ClusterOptions(),
    )


def random_sequences(
    count: int, *, seed: int, advantage: float | None = None
) -> list[TrainSequence]:
    """Sequences of 6 to 45 tokens, with advantages of both signs where none is given."""
    rng = np.random.default_rng(seed)
    sequences: list[TrainSequence] = []
    for index in range(count):
        length = int(rng.integers(6, 46))
        num_prompt_tokens = int(rng.integers(1, 6))
        num_answer_tokens = length - num_prompt_tokens
        sequences.append(
            TrainSequence(
                token_ids=tuple(int(x) for x in rng.integers(1, VOCAB_SIZE, length)),
                num_prompt_tokens=num_prompt_tokens,
                advantages=(float(rng.normal()) if advantage is None else advantage,)
                * num_answer_tokens,
                rollout_logprobs=tuple(float(x) for x in -4 - rng.random(num_answer_tokens)),
                loss_mask=(1.0,) * num_answer_tokens,
                is_correct=index % 3 == 0,
                group=index // 4,
            )
        )
    return sequences


def random_groups(*, seed: int) -> list[Group]:
    """Three groups of four rollouts of 1 to 40 tokens, with one, two and three right ones."""
    rng = np.random.default_rng(seed)
    groups: list[Group] = []
    for index in range(3):
        prompt = Prompt("", tuple(int(x) for x in rng.integers(1, VOCAB_SIZE, 4)), "easy")
        request = GroupRequest(index, prompt, 4, 40, 0.9, 1.0, 0, index, 0)
        rollouts: list[Rollout] = []
        for sample in range(4):
            length = 40 if sample == 3 else int(rng.integers(1, 40))
            reason = FinishReason.LENGTH if sample == 3 else FinishReason.STOP
            tokens = tuple(int(x) for x in rng.integers(1, VOCAB_SIZE, length))
            logprobs = tuple(float(x) for x in -4 - rng.random(length))
            completion = Completion(tokens, logprobs, reason, (VersionSpan(0, 0, length),))
            rollouts.append(Rollout(completion, _marks(is_right=sample <= index)))
        groups.append(Group(request, tuple(rollouts)))
    return groups


def _marks(*, is_right: bool) -> Marks:
    return Marks(
        reward=float(is_right),
        num_attempts=1,
        num_unique_attempts=1,
        num_claimed_hits=0,
        num_false_hits=0,
        num_missed_hits=0,
        num_failed_checks=0,
        ends_at_failed_check=False,
        solved_at=None,
        attempts_at=(),
        failure=Failure.NONE,
    )


def packed(
    sequences: list[TrainSequence],
    *,
    step: int = 0,
    packed_tokens: int = 128,
    num_bins_multiple: int = 2,
    normalizer: float | None = None,
) -> PackedBatch:
    """The batch of one step of the stage ``easy``; without a normalizer the sum of its mask."""
    total = sum(sum(sequence.loss_mask) for sequence in sequences)
    return pack(
        sequences,
        normalizer=total if normalizer is None else normalizer,
        rules=BinRules(packed_tokens, num_bins_multiple, pair_cost=0.01),
        stage="easy",
        step=step,
        round=step,
        version=step,
        lag=0,
    )
