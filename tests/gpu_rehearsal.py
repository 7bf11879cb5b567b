"""Runs the bodies of the GPU tests on the CPU, so that nothing in them is stale."""

import inspect
import tempfile
from pathlib import Path
from typing import Any

from e3mega.families.geometry import ModelOptions
from e3mega.mcore.config import gradient_config, optimizer_config, transformer_config
from e3mega.mcore.parallel import RankGrid, destroy_parallel
from e3mega.spec.schema.layout import Device, Fp8, LearnerLayout
from e3mega.spec.schema.optimizer import OptimizerOptions
from tests.family_cases import family_model, half
from tests.gpu import test_gpu_learner

LAYOUTS = {
    name: value for name, value in vars(test_gpu_learner).items() if type(value) is LearnerLayout
}


def bodies() -> dict[str, Any]:
    """The test functions of the module."""
    found = inspect.getmembers(test_gpu_learner, inspect.isfunction)
    return {name: function for name, function in found if name.startswith("test_")}


def run(grid: RankGrid) -> list[str]:
    """Run each body with the local layers; the names of those that ran through."""
    destroy_parallel()
    layout = test_gpu_learner.LOCAL.model_copy(update={"device": Device.CPU})
    ran: list[str] = []
    for name, body in bodies().items():
        cases = (
            [{"name": family} for family in test_gpu_learner.NAMES]
            if "name" in inspect.signature(body).parameters
            else [{}]
        )
        for case in cases:
            with tempfile.TemporaryDirectory() as folder:
                body(Path(folder), layout, **case)
        ran.append(name)
    return ran


def compile_all() -> int:
    """Compile every layout of the module for every family; how many pairs there were.

    Megatron asks for the version of Transformer Engine where experts compute in 8 bits.
    """
    count = 0
    models: list[ModelOptions] = [half(family_model(name)) for name in test_gpu_learner.NAMES]
    for layout in LAYOUTS.values():
        for model in models:
            if layout.fp8 is not Fp8.OFF and model.experts is not None:
                continue
            count += 1
            transformer_config(model, layout, uses_te=layout is not test_gpu_learner.LOCAL)
            optimizer_config(model, layout, OptimizerOptions())
        gradient_config(layout)
    return count
