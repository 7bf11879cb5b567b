"""The learner on one GPU over NCCL: what only a GPU can show.

``make test-gpu`` runs these on a machine with a GPU. Tests of Transformer Engine need it installed.
``tests/gpu_rehearsal.py`` runs every one of them on the CPU, as far as a CPU can.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from megatron.core.extensions.transformer_engine import HAVE_TE

from e3mega.checkpoint.manifest import verify
from e3mega.checkpoint.sharded import load_checkpoint
from e3mega.device import ProcessRank
from e3mega.families.geometry import ModelOptions, Precision
from e3mega.learner.step import score, train_step
from e3mega.mcore.build import LearnerModel, build_learner
from e3mega.mcore.parallel import RankGrid, destroy_parallel, init_parallel
from e3mega.objective.options import LossOptions
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan
from e3mega.rollout.batch import PackedBatch
from e3mega.spec.schema.layout import Device, Fp8, LayerImplementation, LearnerLayout, Recompute
from e3mega.weights.load import folder_reader, load_weights
from e3mega.weights.source import MegatronWeightSource
from tests.family_cases import family_model, write_hf_family
from tests.integration.checkpoint_jobs import NUM_AFTER, NUM_BEFORE, begin
from tests.integration.family_jobs import TEMPERATURE, batch_of_all_tokens
from tests.integration.grid_jobs import SUPERVISED, recorded
from tests.learner_cases import tiny_plan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.accelerator.is_available(), reason="no GPU on this machine"),
]
te = pytest.mark.skipif(not HAVE_TE, reason="Transformer Engine is not installed")
LOCAL = LearnerLayout(device=Device.GPU, layers=LayerImplementation.LOCAL)
TE = LearnerLayout(device=Device.GPU, layers=LayerImplementation.TRANSFORMER_ENGINE)
OVERLAPPED = TE.model_copy(update={"overlap_grad_reduce": True, "overlap_param_gather": True})
RECOMPUTED = TE.model_copy(update={"recompute": Recompute.FULL})
FP8 = TE.model_copy(update={"fp8": Fp8.DELAYED})
both = pytest.mark.parametrize(
    "layout", [pytest.param(LOCAL, id="local"), pytest.param(TE, id="te", marks=te)]
)
NAMES = ("qwen3-tied", "qwen2-linear", "llama", "qwen3-moe")


@contextmanager
def joined(layout: LearnerLayout, folder: Path) -> Iterator[RankGrid]:
    """One rank over NCCL."""
    store = f"file://{folder}/store-{len(list(folder.iterdir()))}"
    yield init_parallel(layout, ProcessRank(0, 1, 0), init_method=store)
    destroy_parallel()


def learner_of(grid: RankGrid, model: ModelOptions, folder: Path) -> tuple[Plan, LearnerModel]:
    loss = LossOptions.model_validate(SUPERVISED, strict=False)
    plan = tiny_plan(grid.layout, model=model, loss=loss)
    learner = build_learner(plan, grid)
    load_weights(learner, folder_reader(folder))
    return plan, learner


def losses(learner: LearnerModel, plan: Plan, steps: range) -> list[float]:
    """Losses of steps over one batch again and again."""
    return [
        train_step(learner, recorded(0, 1.0), plan.stages[0], stage_step=step)["loss"]
        for step in steps
    ]


def of_precision(name: str, precision: Precision) -> ModelOptions:
    """The model of a case in a precision."""
    return family_model(name).model_copy(update={"precision": precision})


def transformers_scores(reference: Any, batch: PackedBatch) -> Any:
    """Log-probabilities of a batch by transformers, sequence by sequence; (N, T)."""
    logprobs_NT = np.zeros(batch.tokens_NT.shape, np.float32)
    for row, segments_T in enumerate(batch.segments_NT):
        for segment in range(segments_T.max() + 1):
            at = np.flatnonzero(segments_T == segment)
            tokens = torch.from_numpy(batch.tokens_NT[row, at].astype(np.int64))
            if tokens.any():
                with torch.no_grad():
                    logits = reference(tokens[None]).logits[0].float() / TEMPERATURE
                table = logits.log_softmax(-1)[:-1]
                logprobs_NT[row, at[1:]] = table.gather(1, tokens[1:, None])[:, 0].numpy()
    return logprobs_NT


@both
@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_transformers(tmp_path: Path, layout: LearnerLayout, name: str) -> None:
    """In fp32 to 1e-3 (matrix products of a GPU); in bfloat16, on average, as near to them as
    transformers' own bfloat16, give or take a half: single tokens may meet other experts."""
    reference = write_hf_family(name, tmp_path / "hf").to("cpu")
    batch = batch_of_all_tokens(1)
    wanted_NT = transformers_scores(reference, batch)
    rounding = np.abs(transformers_scores(reference.bfloat16(), batch) - wanted_NT).mean()
    assert 0.0 < rounding < 0.02
    for precision in (Precision.FLOAT32, Precision.BFLOAT16):
        if precision is Precision.FLOAT32 and layout.layers is not LayerImplementation.LOCAL:
            continue  # Its fused attention takes 16-bit heads.
        with joined(layout, tmp_path) as grid:
            _, learner = learner_of(grid, of_precision(name, precision), tmp_path / "hf")
            found_NT = score(learner, batch, temperature=TEMPERATURE)
        assert found_NT is not None
        if precision is Precision.FLOAT32:
            np.testing.assert_allclose(found_NT, wanted_NT, atol=1e-3, rtol=0)
        else:
            assert np.abs(found_NT - wanted_NT).mean() < 1.5 * rounding


@both
@pytest.mark.parametrize("name", NAMES)
def test_weights_come_back_bit_for_bit(tmp_path: Path, layout: LearnerLayout, name: str) -> None:
    from safetensors.torch import load_file

    write_hf_family(name, tmp_path / "hf")
    wanted = load_file(tmp_path / "hf" / "model.safetensors")
    with joined(layout, tmp_path) as grid:
        _, learner = learner_of(grid, of_precision(name, Precision.BFLOAT16), tmp_path / "hf")
        came = {
            each: tensor for each, tensor in MegatronWeightSource(learner) if tensor is not None
        }
        assert came.keys() == wanted.keys()
        for each, tensor in came.items():
            assert torch.equal(tensor.cpu(), wanted[each].to(torch.bfloat16)), each


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(LOCAL, id="local"),
        pytest.param(TE, id="te", marks=te),
        pytest.param(OVERLAPPED, id="te-overlapped", marks=te),
        pytest.param(RECOMPUTED, id="te-recomputed", marks=te),
        pytest.param(FP8, id="te-fp8", marks=te),
    ],
)
def test_bfloat16_training_keeps_fp32_main_weights_and_learns(
    tmp_path: Path, layout: LearnerLayout
) -> None:
    if layout.fp8 is not Fp8.OFF and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU multiplies no 8-bit floats")
    write_hf_family("qwen3-tied", tmp_path / "hf")
    with joined(layout, tmp_path) as grid:
        model = of_precision("qwen3-tied", Precision.BFLOAT16)
        plan, learner = learner_of(grid, model, tmp_path / "hf")
        found = losses(learner, plan, range(8))
        main: Any = learner.optimizer.param_groups
        dtypes = {parameter.dtype for group in main for parameter in group["params"]}
        assert dtypes == {torch.float32}
        assert {each.dtype for each in learner.named_parameters().values()} == {torch.bfloat16}
    assert found[-1] < found[0]
    assert all(np.isfinite(found))


@both
def test_a_save_in_the_background_is_loaded_and_training_goes_on(
    tmp_path: Path, layout: LearnerLayout
) -> None:
    """The process that writes is a fork of one that uses the GPU, which trains on meanwhile."""
    write_hf_family("qwen3-tied", tmp_path / "hf")
    model, run = of_precision("qwen3-tied", Precision.BFLOAT16), tmp_path / "run"
    with joined(layout, tmp_path) as grid:
        plan, learner = learner_of(grid, model, tmp_path / "hf")
        losses(learner, plan, range(NUM_BEFORE))
        writer = begin(learner, plan, str(run), version=NUM_BEFORE, is_asynchronous=True)
        wanted = losses(learner, plan, range(NUM_BEFORE, NUM_BEFORE + NUM_AFTER))
        writer.finish()
    verify(RunPaths(run).checkpoint(NUM_BEFORE))
    with joined(layout, tmp_path) as grid:
        plan, learner = learner_of(grid, model, tmp_path / "hf")
        load_checkpoint(learner, RunPaths(run).checkpoint(NUM_BEFORE), plan)
        found = losses(learner, plan, range(NUM_BEFORE, NUM_BEFORE + NUM_AFTER))
    assert found == pytest.approx(wanted, rel=1e-3), "sums of a GPU have no fixed order"
