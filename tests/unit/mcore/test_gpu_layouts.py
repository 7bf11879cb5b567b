"""What a GPU layout compiles to is what was reviewed, as far as a CPU can see."""

import ast
import json
from pathlib import Path

import pytest
from megatron.core.extensions import transformer_engine

from e3mega.errors import JobError
from e3mega.mcore.build import our_name
from e3mega.mcore.config import transformer_config
from e3mega.mcore.te_layers import FINAL_NORM, layer_modules, uses_te
from e3mega.spec.schema.layout import Device, LayerImplementation, LearnerLayout
from tests import gpu_rehearsal
from tests.family_cases import CASES as FAMILIES
from tests.family_cases import family_model
from tests.gpu_layouts import CASES, TABLE, compiled

GPU = LearnerLayout(device=Device.GPU)


@pytest.mark.parametrize("case", CASES)
def test_a_gpu_layout_compiles_to_the_reviewed_table(case: str) -> None:
    assert compiled(*CASES[case]) == json.loads(TABLE.read_text())[case], (
        "python -m tests.gpu_layouts writes the table anew; review its difference"
    )


def test_every_layer_that_is_named_is_one_of_megatron_s_extensions() -> None:
    """Read from the source: without Transformer Engine the classes are not defined."""
    source = Path(str(transformer_engine.__file__)).read_text()
    defined = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)}
    named = {FINAL_NORM} | {
        name
        for case in FAMILIES
        for has_experts in (False, True)
        for name in layer_modules(family_model(case), has_experts=has_experts).values()
    }
    assert named - {"IdentityOp"} <= defined


def test_without_transformer_engine_a_gpu_falls_back_to_local_layers() -> None:
    assert uses_te(GPU, is_installed=True)
    assert not uses_te(GPU, is_installed=False)
    local = GPU.model_copy(update={"layers": LayerImplementation.LOCAL})
    assert not uses_te(local, is_installed=True)
    assert not uses_te(LearnerLayout(), is_installed=True)


def test_transformer_engine_is_not_replaced_silently_where_it_is_asked_for() -> None:
    layout = GPU.model_copy(update={"layers": LayerImplementation.TRANSFORMER_ENGINE})
    with pytest.raises(JobError, match="not installed"):
        uses_te(layout, is_installed=False)


def test_both_kinds_of_layers_have_the_names_of_the_mapping_table() -> None:
    table = {
        "decoder.layers.0.self_attention.linear_qkv.layer_norm_weight": "input_layernorm.weight",
        "decoder.layers.0.mlp.linear_fc1.layer_norm_weight": "pre_mlp_layernorm.weight",
        "decoder.layers.0.mlp.experts.linear_fc1.weight3": (
            "mlp.experts.local_experts.3.linear_fc1.weight"
        ),
        "decoder.layers.0.mlp.linear_fc1.weight": "mlp.linear_fc1.weight",
        "decoder.layers.0.pre_mlp_layernorm.weight": "pre_mlp_layernorm.weight",
    }
    for theirs, ours in table.items():
        assert our_name(theirs).endswith(ours), theirs


def test_stages_of_the_configuration_hold_the_listed_layers() -> None:
    model, layout = CASES["qwen2.5-7b, interleaved stages"]
    found = transformer_config(model, layout, uses_te=True).pipeline_model_parallel_layout
    sizes = [[str(part).count("decoder") for part in stage] for stage in found.layout]
    assert sizes == [[6, 8], [8, 6]]


def test_the_layouts_of_the_gpu_tests_compile() -> None:
    assert gpu_rehearsal.compile_all() == 5 * 4 - 1
