"""Rehearses the GPU tests where there is no GPU, so that a machine with one meets no error of ours.

``python -m tests.gpu_rehearsal`` runs them all on the CPU; a forked rank does so in
``tests/integration/test_gpu_rehearsal.py``. Layers are the local ones, over gloo, and nothing
computes in 8 bits. What a rehearsal cannot show: NCCL, the kernels of CUDA, and Transformer
Engine's modules, of which ``tests/unit/mcore/test_gpu_layouts.py`` holds names and settings against
a reviewed table.
"""

import itertools
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e3mega.families.geometry import ModelOptions
from e3mega.mcore.config import gradient_config, optimizer_config, transformer_config
from e3mega.mcore.parallel import RankGrid, destroy_parallel
from e3mega.spec.schema.layout import Device, Fp8, LayerImplementation, LearnerLayout
from e3mega.spec.schema.optimizer import OptimizerOptions
from tests.family_cases import family_model, half
from tests.gpu import test_gpu_learner

LAYOUTS = {
    name: value for name, value in vars(test_gpu_learner).items() if type(value) is LearnerLayout
}


@dataclass(frozen=True, slots=True)
class Case:
    """One GPU test with its arguments. Example: ``Case("test_x[te]", test_x, {"layout": TE})``."""

    name: str
    function: Callable[..., None]
    arguments: dict[str, Any]


def cases() -> Iterator[Case]:
    """Every case that pytest would run on a machine with a GPU."""
    for name, function in vars(test_gpu_learner).items():
        if not name.startswith("test_"):
            continue
        axes: list[list[tuple[str, str, Any]]] = []
        for mark in getattr(function, "pytestmark", []):
            assert mark.name == "parametrize", f"{name}: {mark.name} is not rehearsed"
            key, values = mark.args
            axes.append([_labelled(key, value) for value in values])
        for chosen in itertools.product(*axes):
            label = "-".join(text for _, text, _ in chosen)
            yield Case(f"{name}[{label}]", function, {key: value for key, _, value in chosen})


def _labelled(key: str, value: Any) -> tuple[str, str, Any]:
    """The argument's name, its label and its value; a value may stand in a ``pytest.param``."""
    if hasattr(value, "marks"):
        return key, str(value.id), value.values[0]
    return key, str(value), value


def on_cpu(layout: LearnerLayout) -> LearnerLayout:
    """The layout with what a CPU has in place of what it lacks."""
    update = {"device": Device.CPU, "layers": LayerImplementation.LOCAL, "fp8": Fp8.OFF}
    return layout.model_copy(update=update)


def rehearse(case: Case) -> str:
    """Run a case on the CPU; the traceback of what went wrong, or nothing."""
    arguments = {
        key: on_cpu(value) if isinstance(value, LearnerLayout) else value
        for key, value in case.arguments.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            case.function(tmp_path=Path(folder), **arguments)
        except BaseException:
            return traceback.format_exc()
    return ""


def rehearse_all(grid: RankGrid | None = None) -> dict[str, str]:
    """What went wrong, by the name of the case; empty where nothing did.

    In a forked rank the grid that it has joined is left first: the tests join their own.
    """
    if grid is not None:
        destroy_parallel()
    return {case.name: rehearse(case) for case in cases()}


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


if __name__ == "__main__":
    for name, error in rehearse_all().items():
        print(f"{name}: {error or 'ok'}", flush=True)
