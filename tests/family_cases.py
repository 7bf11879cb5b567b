"""A tiny model of every family, and what transformers computes with it."""

import json
from pathlib import Path
from typing import Any

import torch

from e3mega.families.geometry import ExpertOptions, Family, ModelOptions, Precision
from e3mega.families.hf_config import hf_config
from e3mega.families.rope import LinearRope, Llama3Rope, RopeScaling, YarnRope

# The vocabulary is no multiple of the padding's, and its last rows fall on the second of two ranks.
VOCAB_SIZE = 70


def family_model(name: str) -> ModelOptions:
    """The model of a case of ``CASES``."""
    family, ties, experts, rope = CASES[name]
    return ModelOptions(
        family=family,
        num_layers=4,
        hidden_size=64,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        ffn_size=96,
        experts=experts,
        vocab_size=VOCAB_SIZE,
        max_context_tokens=512,
        rope_theta=10_000.0,
        rope_scaling=rope,
        norm_eps=1e-5,
        ties_embeddings=ties,
        # Large enough that rounding does not change which experts a token is given to.
        init_std=0.1,
    )


_EXPERTS = ExpertOptions(num_experts=4, experts_per_token=2, ffn_size=32, normalizes_gates=True)
_SOME_DENSE = _EXPERTS.model_copy(update={"normalizes_gates": False, "dense_layers": (1,)})
_LLAMA3 = Llama3Rope(
    kind="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_context_tokens=32,
)
_YARN = YarnRope(kind="yarn", factor=4.0, original_context_tokens=64, attention_factor=1.1386)

CASES: dict[str, tuple[Family, bool, ExpertOptions | None, RopeScaling | None]] = {
    "qwen3-tied": (Family.QWEN3, True, None, None),
    "qwen3-yarn": (Family.QWEN3, False, None, _YARN),
    "qwen2-tied": (Family.QWEN2, True, None, None),
    "qwen2-linear": (Family.QWEN2, False, None, LinearRope(kind="linear", factor=2.0)),
    "llama-tied": (Family.LLAMA, True, None, _LLAMA3),
    "llama": (Family.LLAMA, False, None, _LLAMA3),
    "qwen3-moe": (Family.QWEN3_MOE, False, _EXPERTS, None),
    "qwen3-moe-some-dense": (Family.QWEN3_MOE, True, _SOME_DENSE, None),
}


def write_hf_family(name: str, folder: Path) -> Any:
    """Write a random transformers model of a case in fp32; returns it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(5)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(hf_config(family_model(name))))
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0.0, 0.1)
    model.save_pretrained(folder)
    return model


def half(model: ModelOptions) -> ModelOptions:
    """The same model in bfloat16."""
    return model.model_copy(update={"precision": Precision.BFLOAT16})
