"""Frequencies of the rotary embedding against transformers' own functions."""

import pytest
import torch
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from e3mega.families.geometry import ModelOptions
from e3mega.families.hf_config import geometry, hf_config
from e3mega.mcore.rope import rotary
from e3mega.metrics import Json
from tests.hf_configs import LLAMA_3_2_1B, QWEN2_5_1_5B, QWEN3_1_7B

YARN: dict[str, Json] = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 4.0,
    "original_max_position_embeddings": 32768,
}
CASES: dict[str, dict[str, Json]] = {
    "default": QWEN3_1_7B,
    "llama3": LLAMA_3_2_1B,
    "linear": {**QWEN3_1_7B, "rope_scaling": {"type": "linear", "factor": 3.0}},
    "yarn": {**QWEN2_5_1_5B, "rope_parameters": YARN},
    "yarn with scales": {
        **QWEN3_1_7B,
        "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.7, "beta_fast": 24.0},
    },
    "yarn not rounded": {**QWEN3_1_7B, "rope_parameters": {**YARN, "truncate": False}},
}


@pytest.mark.parametrize("case", CASES)
def test_frequencies_are_those_of_transformers(case: str) -> None:
    model = ModelOptions.model_validate(geometry(CASES[case], case), strict=False)
    settings = hf_config(model)
    config = AutoConfig.for_model(str(settings.pop("model_type")), **settings)
    kind = config.rope_parameters["rope_type"]
    found = rotary(model)
    if kind == "default":
        dims_E = torch.arange(0, model.head_dim, 2, dtype=torch.int64).float()
        wanted_E, scale = 1.0 / model.rope_theta ** (dims_E / model.head_dim), 1.0
    else:
        wanted_E, scale = ROPE_INIT_FUNCTIONS[kind](config)
    torch.testing.assert_close(found.frequencies_E, wanted_E, rtol=3e-7, atol=0)
    assert found.scale == pytest.approx(scale, rel=1e-9)
