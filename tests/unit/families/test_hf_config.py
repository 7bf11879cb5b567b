"""Geometry goes between config.json and the spec without loss, and nothing is guessed."""

import json
from pathlib import Path

import pytest
import yaml
from transformers import AutoConfig

from e3mega.cli import main
from e3mega.errors import ModelError
from e3mega.families.fragment import model_fragment
from e3mega.families.geometry import ModelOptions
from e3mega.families.hf_config import check_geometry, geometry, hf_config
from e3mega.metrics import Json
from e3mega.plan.memory import num_parameters
from tests.family_cases import CASES, family_model
from tests.hf_configs import LLAMA_3_2_1B, PUBLISHED, QWEN3_1_7B, QWEN3_30B_A3B


def _model(section: dict[str, Json]) -> ModelOptions:
    return ModelOptions.model_validate(section, strict=False)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_its_number_of_parameters(name: str) -> None:
    config, count = PUBLISHED[name]
    assert num_parameters(_model(geometry(config, name))) == count


@pytest.mark.parametrize("name", CASES)
def test_a_configuration_that_is_written_reads_back_the_same(name: str, tmp_path: Path) -> None:
    """By our reader, and through transformers' own class."""
    model = family_model(name)
    config = hf_config(model)
    geometry_keys = {"precision", "init_std"}
    section = _model(geometry(config, name)).model_dump(exclude=geometry_keys)
    assert section == model.model_dump(exclude=geometry_keys)
    (tmp_path / "config.json").write_text(json.dumps(config))
    AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    check_geometry(model, again, name)


# What is changed in a configuration, and what the refusal names.
REFUSED: dict[str, tuple[dict[str, Json], dict[str, Json], str]] = {
    "family": (QWEN3_1_7B, {"model_type": "gemma3"}, "model_type = gemma3"),
    "bias": (QWEN3_1_7B, {"attention_bias": True}, "attention_bias = True"),
    "window": (QWEN3_1_7B, {"use_sliding_window": True}, "use_sliding_window = True"),
    "layer types": (QWEN3_1_7B, {"layer_types": ["sliding_attention"]}, "layer_types"),
    "activation": (LLAMA_3_2_1B, {"hidden_act": "gelu"}, "hidden_act = gelu"),
    "feed-forward bias": (LLAMA_3_2_1B, {"mlp_bias": True}, "mlp_bias = True"),
    "quantised": (LLAMA_3_2_1B, {"quantization_config": {"bits": 4}}, "quantization_config"),
    "unknown": (QWEN3_1_7B, {"attention_sinks": 4}, "attention_sinks = 4"),
    "shared experts": (
        QWEN3_30B_A3B,
        {"shared_expert_intermediate_size": 64},
        "shared_expert_intermediate_size",
    ),
    "rope kind": (
        QWEN3_1_7B,
        {"rope_scaling": {"rope_type": "longrope", "factor": 2.0}},
        "rope_type = longrope",
    ),
    "rope setting": (
        QWEN3_1_7B,
        {"rope_scaling": {"type": "linear", "factor": 2.0, "beta": 1.0}},
        "rope_parameters.beta",
    ),
    "partial rotation": (
        QWEN3_1_7B,
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        "partial_rotary_factor",
    ),
    "missing": (QWEN3_1_7B, {"vocab_size": None}, "vocab_size is missing"),
    "missing experts": (QWEN3_30B_A3B, {"num_experts": None}, "num_experts is missing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_supported_is_refused_by_name(case: str) -> None:
    config, changes, named = REFUSED[case]
    with pytest.raises(ModelError, match=named):
        geometry({**config, **changes}, "config.json")


def test_every_second_layer_of_experts_is_read() -> None:
    config = {**QWEN3_30B_A3B, "num_hidden_layers": 6, "decoder_sparse_step": 2}
    experts = _model(geometry({**config, "mlp_only_layers": [3]}, "x")).experts
    assert experts is not None
    assert experts.dense_layers == (0, 2, 3, 4)


def test_another_model_than_the_spec_s_is_refused_with_the_difference() -> None:
    model = _model(geometry(QWEN3_1_7B, "x"))
    shorter = model.model_copy(update={"max_context_tokens": 8192})
    check_geometry(shorter, QWEN3_1_7B, "x")
    wrong = model.model_copy(update={"rope_theta": 1e4, "max_context_tokens": 65536})
    with pytest.raises(ModelError) as found:
        check_geometry(wrong, QWEN3_1_7B, "x")
    assert "model.rope_theta = 10000.0, the configuration has 1000000.0" in str(found.value)
    assert "model.max_context_tokens = 65536" in str(found.value)


def test_the_command_writes_a_fragment_that_a_spec_includes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_3_2_1B))
    assert main(["geometry", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text == model_fragment(LLAMA_3_2_1B, "x")
    section = yaml.safe_load(text)["model"]
    assert section["precision"] == "bfloat16"
    assert "rope_theta" in section
    assert "ties_embeddings" not in section, "a fragment states no default"
    assert num_parameters(_model(section)) == 1_235_814_400
    fragment = tmp_path / "llama.yaml"
    assert main(["geometry", str(tmp_path / "config.json"), "--output", str(fragment)]) == 0
    assert fragment.read_text() == text
    assert main(["geometry", str(tmp_path), "--output", str(fragment)]) == 1
    assert "exists" in capsys.readouterr().err
