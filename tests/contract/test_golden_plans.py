"""Every shipped run's key numbers, derived by hand from the paper's tables and its own file.

The derivations stand as products and sums: sequences of a step are prompts times samples, steps are
iterations times mini-batches of one, the longest request is a prompt and the largest evaluation.
"""

from dataclasses import dataclass

import pytest

from e3mega.plan.compile import checked_plan
from e3mega.plan.planfile import Plan
from e3mega.spec.files import LIBRARY
from e3mega.spec.resolve import resolve_spec

K = 1024
RUNS = sorted((LIBRARY / "runs").rglob("*.yaml"))


@dataclass(frozen=True)
class Stage:
    """What a stage trains on."""

    batch: int
    """Sequences of a step over all ranks."""
    steps: int
    packed: int
    """Tokens of a bin."""
    prompt: int
    """Tokens of the longest prompt."""
    budgets: tuple[int, ...]
    completion: float = 0.5
    """Mean tokens of a completion as a share of the budget; sampled ones end early."""


@dataclass(frozen=True)
class Golden:
    """What a run takes, and its stages by name."""

    ranks: int
    devices: int
    longest: int
    """Tokens of the longest request, a server's ``max_model_len``."""
    stages: dict[str, Stage]


def easy(budget: int) -> Stage:
    """Table 5: 100 iterations of 128 prompts in mini-batches of 32, 8 samples each."""
    return Stage(32 * 8, 100 * 4, 17 * K, K, (budget,))


# 60 iterations of 64 prompts in mini-batches of 32, 32 samples each.
MEDHARD = Stage(32 * 32, 60 * 2, 17 * K, K, (16 * K,))
E3 = {"easy": easy(8 * K), "medhard": MEDHARD}
MATH = 1 * K + 32 * K  # A prompt, and the evaluation at 32k.


def math(stages: dict[str, Stage]) -> Golden:
    """A node of learner ranks, tp 4 and dp 2; three of one server each GPU."""
    return Golden(4 * 2, 8 + 3 * 8, MATH, stages)


def countdown(iterations: int, *budgets: int) -> Stage:
    """Table 4: iterations of 128 prompts in mini-batches of 32, 8 samples each."""
    return Stage(32 * 8, iterations * 4, 4 * K, 256, budgets)


def llama(**stages: Stage) -> Golden:
    """Four learner ranks and four servers of one node; evaluated up to 8k."""
    return Golden(4, 4 + 4, 256 + 8 * K, stages)


# Table 3: 400 iterations of 256 prompts in mini-batches of 64, 16 samples each.
MULTIPLY = Stage(64 * 16, 400 * 4, 8 * K, 256, (4 * K,))


def tiny(batch: int, steps: int, prompt: int, *budgets: int) -> Stage:
    """The quickstart's model; prompts are the start, the numbers, the target and two signs."""
    return Stage(batch, steps, 2 * K, prompt, budgets)


def traces(attempts: int, attempt: int, ending: float) -> float:
    """Mean tokens of a trace over the warm-up's budget: seven of ten go on behind an attempt."""
    return (attempt * sum(0.7**k for k in range(attempts)) + ending) / 256


# Three numbers: an attempt is 10 words, half the endings an answer of 10, half of them two words.
THREE = traces(24, 10, (10 + 2) / 2)
# Two numbers: 6 words, and an answer of 6.
TWO = traces(3, 6, (6 + 2) / 2)
VARIANTS = [
    "grpo",
    "grpo_mask",
    "negative_only",
    "psr",
    "nsr",
    "w_reinforce",
    "dr_grpo",
    "dapo",
    "rloo",
    "reinforce_pp",
    "gspo",
    "cispo",
    "sapo",
    "ngrpo",
    "topr",
    "asymre",
    "nthr",
    "maxrl",
    "passk",
    "intellect2",
]

GOLDEN = {
    "quickstart": Golden(
        *(2, 2, 7 + 4 * 64),
        {
            "warmup": Stage(64, 1000, 2 * K, 7, (4 * 64,), THREE),
            "easy": tiny(32 * 8, 40, 7, 64),
            "hard": tiny(32 * 8, 40, 7, 64, 128),
        },
    ),
    "quickstart-small": Golden(
        *(2, 2, 7 + 4 * 64),
        {
            "warmup": Stage(8, 8, 2 * K, 7, (4 * 64,), THREE),
            "easy": tiny(8 * 4, 2, 7, 64),
            "hard": tiny(8 * 4, 1, 7, 64, 128),
        },
    ),
    "loss-variants": Golden(
        *(2, 2, 6 + 4 * 64),
        {"warmup": Stage(16, 200, 2 * K, 6, (4 * 64,), TWO)}
        | {name: tiny(8 * 8, 2, 6, 64) for name in VARIANTS},
    ),
    "paper/e3-qwen3-1.7b": math(E3),
    "paper/e3-qwen3-1.7b-one-node": Golden(4, 4 + 4, MATH, E3),
    "paper/e3-fixed-4k": math({"easy": easy(4 * K)}),
    "paper/e3-fixed-8k": math({"easy": easy(8 * K)}),
    "paper/e3-fixed-16k": math({"easy": easy(16 * K)}),
    "paper/e3-mix-easy": math({"mix": easy(8 * K)}),
    "paper/e3-mix-easy-medium": math({"mix": easy(8 * K)}),
    "paper/e3-mix-all": math({"mix": easy(8 * K)}),
    "paper/e3-hard": math({"mix": easy(8 * K)}),
    "paper/e3-hard-positive-only": math({"mix": easy(8 * K)}),
    "paper/e3-hard-positive-only-entropy": math({"mix": easy(8 * K)}),
    "paper/e3-data-only": math({"easy": easy(16 * K), "medhard": MEDHARD}),
    "paper/e3-budget-only": math({"mix": easy(8 * K), "longer": MEDHARD}),
    "paper/countdown-llama": llama(five=countdown(90, 2 * K)),
    "paper/countdown-llama-positive-only": llama(five=countdown(90, 2 * K)),
    "paper/countdown-budget-512": llama(five=countdown(400, 512)),
    "paper/countdown-budget-1k": llama(five=countdown(400, K)),
    "paper/countdown-budget-2k": llama(five=countdown(400, 2 * K)),
    "paper/countdown-coupled": llama(
        few=countdown(30, 256), many=countdown(30, 256, 512, K, 2 * K)
    ),
    "paper/countdown-budget-only": llama(few=countdown(30, 256), many=countdown(30, K)),
    "paper/countdown-no-curriculum": llama(few=countdown(60, K)),
    "paper/countdown-3-6-coupled": llama(few=countdown(60, 256), many=countdown(60, K)),
    "paper/countdown-3-6-data-only": llama(few=countdown(60, K), many=countdown(60, K)),
    "paper/multiplication": Golden(4, 4 + 4, 256 + 16 * K, {"multiply": MULTIPLY}),
    "paper/multiplication-verified": Golden(
        *(4, 4 + 4, 256 + 16 * K),
        {"warmup": Stage(64, 300, 2 * K, 256, (512,)), "multiply": MULTIPLY},
    ),
    # tp 4, dp 4; 48 servers.
    "large/e3-qwen3-8b": Golden(4 * 4, 16 + 48, MATH, E3),
    # tp 4, dp 8, its experts over ep 8; 32 servers of two GPUs.
    "large/e3-qwen3-30b-a3b": Golden(4 * 8, 32 + 32 * 2, MATH, E3),
    # tp 8, pp 4, dp 2; 16 servers of four GPUs.
    "large/e3-llama-3.1-70b": Golden(8 * 4 * 2, 64 + 16 * 4, MATH, E3),
}


@pytest.fixture(scope="module", params=RUNS, ids=lambda path: path.stem)
def pair(request: pytest.FixtureRequest) -> tuple[Plan, Golden]:
    name = str(request.param.relative_to(LIBRARY / "runs").with_suffix(""))
    return checked_plan(resolve_spec(request.param)), GOLDEN[name]


def test_the_run_takes_what_was_derived(pair: tuple[Plan, Golden]) -> None:
    plan, golden = pair
    assert len(plan.estimates.ranks) == golden.ranks
    assert plan.estimates.num_devices == golden.devices
    assert plan.server.max_model_len == golden.longest
    assert [stage.name for stage in plan.stages] == list(golden.stages)


def test_its_stages_train_on_what_was_derived(pair: tuple[Plan, Golden]) -> None:
    plan, golden = pair
    for stage in plan.stages:
        own = golden.stages[stage.name]
        rollout = stage.rollout
        assert rollout.prompts_per_step * rollout.samples_per_prompt == own.batch, stage.name
        assert stage.max_steps == own.steps, stage.name
        assert tuple(budget.tokens for budget in stage.budgets) == own.budgets, stage.name
        for budget in stage.budgets:
            longest = own.prompt + budget.tokens
            assert budget.max_sequence_tokens == longest, stage.name
            assert budget.packed_tokens == own.packed >= longest, stage.name
            assert budget.sequences_per_bin == own.packed // longest, stage.name
            (expected,) = (
                each
                for each in plan.estimates.budgets
                if (each.stage, each.budget_tokens) == (stage.name, budget.tokens)
            )
            mean = own.prompt + own.completion * budget.tokens
            assert expected.step_tokens == pytest.approx(own.batch * mean), stage.name


def test_every_shipped_run_has_its_numbers_here() -> None:
    assert set(GOLDEN) == {str(p.relative_to(LIBRARY / "runs").with_suffix("")) for p in RUNS}
