"""The paper's runs plan to the numbers of its tables, derived here by hand."""

import pytest

from e3mega.plan.compile import checked_plan
from e3mega.plan.planfile import Plan, StagePlan
from e3mega.spec.resolve import find_spec, resolve_spec


def plan_of(name: str) -> Plan:
    return checked_plan(resolve_spec(find_spec(name)))


def tokens(stage: StagePlan) -> list[int]:
    return [budget.tokens for budget in stage.budgets]


def test_e3_on_qwen3_is_what_table_5_says() -> None:
    plan = plan_of("paper/e3-qwen3-1.7b")
    easy, medhard = plan.stages
    # global_step_100: 100 iterations of 128 prompts, mini-batches of 32: 4 steps an iteration.
    assert easy.rollout.prompts_per_step * easy.rollout.steps_per_round == 128
    assert easy.max_steps == 400 == 100 * 4
    assert easy.max_steps * easy.rollout.prompts_per_step == 12_800
    assert easy.rollout.samples_per_prompt == 8
    # global_step_60: 60 iterations of 64 prompts, mini-batches of 32.
    assert medhard.rollout.prompts_per_step * medhard.rollout.steps_per_round == 64
    assert medhard.max_steps == 120 == 60 * 2
    assert medhard.rollout.samples_per_prompt == 32
    assert (tokens(easy), tokens(medhard)) == ([8192], [16384])
    for stage, clip_high, entropy in ((easy, 0.5, 0.002), (medhard, 0.35, 0.001)):
        loss = stage.loss.model_dump()
        assert (loss["ratio"]["clip_low"], loss["ratio"]["clip_high"]) == (0.2, clip_high)
        assert loss["ratio"]["dual_clip"] == 3.0
        assert loss["kl"]["coefficient"] == 0.001
        assert loss["entropy"]["coefficient"] == entropy
        assert stage.optimizer.learning_rate == 1e-6
        assert stage.generation.temperature == 0.6
    # Prompts of at most 1024 tokens; the longest request is an evaluation at 32k.
    assert plan.server.max_model_len == 1024 + 32 * 1024
    assert medhard.budgets[0].max_sequence_tokens == 1024 + 16 * 1024
    assert plan.num_parameters == 1_720_574_976
    # Learner: 4 x 2 GPUs of one node; 24 servers on three nodes.
    assert plan.estimates.num_devices == 32
    assert plan.num_nodes == 4
    # 256 sequences a step of 1024 + half of 8192 tokens.
    assert plan.estimates.budgets[0].step_tokens == 256 * (1024 + 4096)


def test_one_node_holds_the_learner_and_four_servers() -> None:
    plan = plan_of("paper/e3-qwen3-1.7b-one-node")
    assert plan.num_nodes == 1
    assert sorted(device for job in plan.jobs for device in job.devices) == list(range(8))


@pytest.mark.parametrize(("name", "budget"), [("4k", 4096), ("8k", 8192), ("16k", 16384)])
def test_the_budget_ablation_has_one_stage(name: str, budget: int) -> None:
    plan = plan_of(f"paper/e3-fixed-{name}")
    assert [(stage.name, tokens(stage)) for stage in plan.stages] == [("easy", [budget])]


def test_ablations_of_the_curriculum_differ_in_budget_or_data_only() -> None:
    data, budget = plan_of("paper/e3-data-only"), plan_of("paper/e3-budget-only")
    assert [tokens(stage) for stage in data.stages] == [[16384], [16384]]
    assert [tokens(stage) for stage in budget.stages] == [[8192], [16384]]
    assert len({stage.task.model_dump_json() for stage in budget.stages}) == 1
    assert len({stage.task.model_dump_json() for stage in data.stages}) == 2


def test_positive_only_is_the_mask_and_nothing_else() -> None:
    for name in ("countdown-llama", "e3-hard"):
        full, mask = plan_of(f"paper/{name}"), plan_of(f"paper/{name}-positive-only")
        ours, masked = full.stages[0].loss.model_dump(), mask.stages[0].loss.model_dump()
        changed = {key for key in ours if ours[key] != masked[key]} - {"entropy"}
        assert changed == {"sign"}
    bonus = plan_of("paper/e3-hard-positive-only-entropy").stages[0].loss.entropy
    assert (
        bonus is not None and plan_of("paper/e3-hard-positive-only").stages[0].loss.entropy is None
    )


def test_countdown_on_llama_is_what_table_4_says() -> None:
    plan = plan_of("paper/countdown-llama")
    (stage,) = plan.stages
    # 90 iterations of 128 prompts, mini-batches of 32, 8 rollouts.
    assert stage.rollout.prompts_per_step * stage.rollout.steps_per_round == 128
    assert (stage.max_steps, stage.rollout.samples_per_prompt) == (90 * 4, 8)
    assert tokens(stage) == [2048]
    assert plan.server.max_model_len == 256 + 8 * 1024
    assert plan.num_parameters == 3_212_749_824


def test_the_curricula_of_countdown() -> None:
    coupled = plan_of("paper/countdown-coupled")
    few, many = coupled.stages
    assert few.task.model_dump()["num_numbers"] == (3, 4)
    assert many.task.model_dump()["num_numbers"] == (7,)
    assert (tokens(few), tokens(many)) == ([256], [256, 512, 1024, 2048])
    assert [stage.max_steps for stage in coupled.stages] == [30 * 4, 30 * 4]
    (none,) = plan_of("paper/countdown-no-curriculum").stages
    assert (tokens(none), none.max_steps) == ([1024], 60 * 4)
    assert none.task.model_dump()["num_numbers"] == (3, 4, 7)
    later = plan_of("paper/countdown-3-6-data-only").stages
    assert [tokens(stage) for stage in later] == [[1024], [1024]]


def test_multiplication_is_what_table_3_says() -> None:
    plain, verified = plan_of("paper/multiplication"), plan_of("paper/multiplication-verified")
    (stage,) = plain.stages
    assert stage.rollout.prompts_per_step * stage.rollout.steps_per_round == 256
    assert stage.rollout.samples_per_prompt == 16
    assert stage.optimizer.learning_rate == 5e-6
    assert stage.generation.temperature == 1.0
    assert [each.name for each in verified.stages] == ["warmup", "multiply"]
    assert verified.stages[1].loss == stage.loss


@pytest.mark.parametrize(
    ("name", "ranks", "devices", "parameters"),
    [
        ("large/e3-qwen3-8b", 4 * 4, 16 + 48, 8_190_735_360),
        ("large/e3-qwen3-30b-a3b", 4 * 8, 32 + 32 * 2, 30_532_122_624),
        ("large/e3-llama-3.1-70b", 8 * 4 * 2, 64 + 16 * 4, 70_553_706_496),
    ],
)
def test_larger_models_fit_their_grids(
    name: str, ranks: int, devices: int, parameters: int
) -> None:
    plan = plan_of(name)
    assert len(plan.estimates.ranks) == ranks
    assert plan.estimates.num_devices == devices
    assert plan.num_parameters == parameters
    room = plan.estimates.device_bytes
    assert all(0 < rank.device_bytes <= room for rank in plan.estimates.ranks)
