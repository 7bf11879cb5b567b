"""Compiles the layouts of the GPU tests where there is no GPU."""

from e3mega.families.geometry import ModelOptions
from e3mega.mcore.config import gradient_config, optimizer_config, transformer_config
from e3mega.spec.schema.layout import Fp8, LearnerLayout
from e3mega.spec.schema.optimizer import OptimizerOptions
from tests.family_cases import family_model, half
from tests.gpu import test_gpu_learner

LAYOUTS = {
    name: value for name, value in vars(test_gpu_learner).items() if type(value) is LearnerLayout
}


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
