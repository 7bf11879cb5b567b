"""Planned sizes equal what transformers, Megatron-Core and torch count and allocate."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from megatron.training.theoretical_memory_usage import compute_weight_and_optimizer_memory
from torch.utils.flop_counter import FlopCounterMode

from e3mega.families.geometry import ModelOptions
from e3mega.families.hf_config import hf_config
from e3mega.plan.counts import model_sizes
from e3mega.plan.flops import forward_flops
from e3mega.plan.memory import memory_per_rank, num_parameters
from e3mega.spec.compose import compose
from e3mega.spec.files import LIBRARY
from e3mega.spec.schema.layout import LearnerLayout
from tests.learner_cases import tiny_model
from tests.warm_parent import WarmParent

FRAGMENTS = sorted((LIBRARY / "fragments" / "model").glob("*.yaml"))


def shipped(name: str) -> ModelOptions:
    """The geometry that a fragment states."""
    problems: list[Any] = []
    composition = compose(LIBRARY / "fragments" / "model" / f"{name}.yaml", problems.append)
    assert problems == []
    return ModelOptions.model_validate_json(json.dumps(composition.tree["model"]))


def on_meta(model: ModelOptions) -> torch.nn.Module:
    """transformers' model of the geometry, without memory."""
    config = hf_config(model)
    made = transformers.AutoConfig.for_model(**{**config, "model_type": config["model_type"]})
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(made)


@pytest.mark.parametrize("name", [path.stem for path in FRAGMENTS])
def test_every_shipped_model_has_transformers_parameters(name: str) -> None:
    model = shipped(name)
    unique = {id(p): p.numel() for p in on_meta(model).parameters()}
    assert num_parameters(model) == sum(unique.values())


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize("pp", [1, 2])
@pytest.mark.parametrize("dp", [1, 2])
def test_a_rank_holds_what_megatron_allocates(
    warm_parent: WarmParent, tp: int, pp: int, dp: int
) -> None:
    """To the byte, but for what Megatron pads gradients with: each to 64 values, and the buffer."""
    layout = LearnerLayout(tp=tp, pp=pp, dp=dp)
    ranks = warm_parent.run(layout, "tests.integration.sizes_jobs:allocated")
    planned = memory_per_rank(tiny_model(), layout)
    for found, rank in zip(ranks, planned, strict=True):
        assert found["weights"] == rank.weight_bytes
        padding = found["gradients"] - rank.gradient_bytes
        assert 0 <= padding <= 4 * (64 * found["num_tensors"] + 128 * dp)
        if dp == 1:
            assert found["optimizer"] == rank.optimizer_bytes
    if dp > 1:
        # Ranks own ranges of the padded buffer, so the last one owns less; together it is exact.
        total = sum(found["optimizer"] for found in ranks)
        assert total == sum(2 * rank.weight_bytes for rank in planned) / dp


def megatron_report(model: ModelOptions, layout: LearnerLayout) -> float:
    """Megatron-LM's own estimate of weights, gradients and optimizer on the fullest rank."""
    experts = model.experts
    arguments = SimpleNamespace(
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        num_attention_heads=model.num_heads,
        kv_channels=model.head_dim,
        group_query_attention=True,
        num_query_groups=model.num_kv_heads,
        ffn_hidden_size=model.ffn_size,
        swiglu=True,
        normalization="RMSNorm",
        multi_latent_attention=False,
        padded_vocab_size=model.vocab_size,
        untie_embeddings_and_output_weights=not model.ties_embeddings,
        num_experts=experts.num_experts if experts else None,
        moe_ffn_hidden_size=experts.ffn_size if experts else None,
        moe_router_topk=experts.experts_per_token if experts else None,
        moe_layer_freq=1,
        moe_shared_expert_intermediate_size=None,
        moe_latent_size=None,
        mtp_num_layers=None,
        add_bias_linear=False,
        tensor_model_parallel_size=layout.tp,
        pipeline_model_parallel_size=layout.pp,
        expert_tensor_parallel_size=layout.expert_tp,
        expert_model_parallel_size=layout.ep,
        data_parallel_size=layout.dp,
        world_size=layout.tp * layout.pp * layout.dp,
        use_distributed_optimizer=True,
    )
    return float(compute_weight_and_optimizer_memory(arguments))


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("llama-3.1-70b", LearnerLayout(tp=8, pp=1, dp=2)),
        ("llama-3.1-70b", LearnerLayout(tp=4, pp=4, dp=4)),
        ("llama-3.2-3b", LearnerLayout(tp=2, dp=4)),
        ("qwen3-8b", LearnerLayout(tp=2, pp=2, dp=2)),
        ("qwen3-30b-a3b", LearnerLayout(tp=1, dp=8, ep=8)),
        ("qwen3-30b-a3b", LearnerLayout(tp=2, pp=2, dp=4, ep=4, sequence_parallel=True)),
    ],
)
def test_big_models_have_megatrons_own_estimate(name: str, layout: LearnerLayout) -> None:
    """It leaves out the norms of queries and keys, which are 2 heads' width a layer."""
    path = LIBRARY / "fragments" / "model" / f"{name}.yaml"
    if not path.is_file():
        pytest.fail(f"{path} is gone")
    model = shipped(name)
    fullest = max(rank.total_bytes for rank in memory_per_rank(model, layout))
    assert fullest == pytest.approx(megatron_report(model, layout), rel=2e-3)


def test_forward_operations_are_those_that_torch_counts() -> None:
    """Token by token with a cache, so that attention looks at the past only, as we count it."""
    model = shipped("qwen3-micro")
    config = transformers.AutoConfig.for_model(**hf_config(model))
    network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    counter, cache, num_tokens = FlopCounterMode(display=False), None, 12
    with counter, torch.no_grad():
        for position in range(num_tokens):
            answer = network(torch.tensor([[position]]), past_key_values=cache, use_cache=True)
            cache = answer.past_key_values
    assert forward_flops(model, num_tokens) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_a_backward_pass_is_two_forward_passes() -> None:
    model = shipped("qwen3-micro")
    config = transformers.AutoConfig.for_model(**hf_config(model))
    network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    tokens = torch.arange(32).unsqueeze(0)
    forward, both = FlopCounterMode(display=False), FlopCounterMode(display=False)
    with forward, torch.no_grad():
        network(tokens)
    with both:
        network(tokens).logits.sum().backward()
    assert both.get_total_flops() == pytest.approx(3 * forward.get_total_flops(), rel=0.01)


def test_experts_count_as_often_as_tokens_meet_them() -> None:
    """Qwen3-30B-A3B's own figures: 30.5 G parameters, 3.3 G of them used by a token."""
    model = shipped("qwen3-30b-a3b")
    assert round(model_sizes(model).total / 1e9, 1) == 30.5
    used = forward_flops(model, 1) / 2 + model.vocab_size * model.hidden_size
    assert 3.3e9 <= used < 3.4e9
