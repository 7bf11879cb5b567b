"""The loss against a loop over tokens that follows the formulas one by one."""

import math

import numpy as np
import pytest
import torch

from e3mega.learner.policy_loss import LossInputs, Sum, policy_loss
from e3mega.objective.options import Advantage, Correction, LossOptions, Ratio

NUM_TOKENS = 40
NORMALIZER = 70.0

VARIANTS = {
    "supervised": LossOptions(advantage=Advantage.CONSTANT, ratio=Ratio.NONE),
    "clipped": LossOptions(ratio=Ratio.TOKEN, clip_low=0.2, clip_high=0.28, dual_clip=None),
    "dual clip": LossOptions(ratio=Ratio.TOKEN, dual_clip=1.5),
    "entropy": LossOptions(ratio=Ratio.TOKEN, entropy_coefficient=0.05),
    "corrected": LossOptions(
        ratio=Ratio.TOKEN, correction=Correction.TRUNCATED_TOKEN, correction_cap=1.3
    ),
    "corrected, no ratio": LossOptions(
        ratio=Ratio.NONE, correction=Correction.TRUNCATED_TOKEN, correction_cap=1.3
    ),
}


def _case() -> tuple[torch.Tensor, torch.Tensor, LossInputs]:
    generator = torch.Generator().manual_seed(3)

    def draw() -> torch.Tensor:
        return torch.randn(NUM_TOKENS, generator=generator)

    mask_T = (draw() > -0.5).float()
    mask_T[3] *= 4.0
    inputs = LossInputs(
        mask_T=mask_T,
        advantages_T=draw() * (mask_T > 0),
        rollout_logprobs_T=-3 + 0.5 * draw(),
        correct_T=(draw() > 0).float(),
        old_logprobs_T=-3 + 0.5 * draw(),
        normalizer=NORMALIZER,
    )
    return (-3 + 0.5 * draw()).requires_grad_(), draw().abs(), inputs


def _token_loss(
    options: LossOptions,
    *,
    logprob: float,
    old: float,
    rollout: float,
    advantage: float,
    entropy: float,
) -> tuple[float, bool]:
    """The loss of one token before mask and normalizer, and whether it is clipped."""
    ratio, is_clipped = math.exp(logprob - old), False
    if options.ratio is Ratio.NONE:
        value = advantage * logprob
    elif advantage >= 0:
        value = advantage * min(ratio, 1 + options.clip_high)
        is_clipped = ratio > 1 + options.clip_high and advantage > 0
    else:
        value = advantage * max(ratio, 1 - options.clip_low)
        is_clipped = ratio < 1 - options.clip_low
        if options.dual_clip is not None and ratio > options.dual_clip:
            value, is_clipped = advantage * options.dual_clip, True
    if options.correction is Correction.TRUNCATED_TOKEN:
        value *= min(math.exp(old - rollout), options.correction_cap)
    return -(value + options.entropy_coefficient * entropy), is_clipped


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_and_clip_follow_the_formulas(name: str) -> None:
    options = VARIANTS[name]
    logprobs_T, entropy_T, inputs = _case()
    assert inputs.old_logprobs_T is not None
    total, num_clipped = 0.0, 0
    for t in range(NUM_TOKENS):
        loss, is_clipped = _token_loss(
            options,
            logprob=float(logprobs_T[t].detach()),
            old=float(inputs.old_logprobs_T[t]),
            rollout=float(inputs.rollout_logprobs_T[t]),
            advantage=float(inputs.advantages_T[t]),
            entropy=float(entropy_T[t]),
        )
        total += float(inputs.mask_T[t]) * loss
        num_clipped += is_clipped and float(inputs.mask_T[t]) > 0
    terms = policy_loss(logprobs_T, entropy_T, inputs, options)
    assert float(terms.loss) == pytest.approx(total / NORMALIZER, rel=1e-5)
    assert terms.sums[Sum.LOSS] == pytest.approx(total / NORMALIZER, rel=1e-5)
    assert terms.sums[Sum.CLIPPED] == num_clipped
    if options.ratio is Ratio.TOKEN:
        assert num_clipped > 3, "the case exercises the clip"


def test_the_gradient_on_policy_is_that_of_the_log_probability() -> None:
    logprobs_T, entropy_T, inputs = _case()
    on_policy = LossInputs(
        inputs.mask_T,
        inputs.advantages_T,
        inputs.rollout_logprobs_T,
        inputs.correct_T,
        None,
        NORMALIZER,
    )
    policy_loss(logprobs_T, entropy_T, on_policy, VARIANTS["clipped"]).loss.backward()
    wanted = -inputs.mask_T * inputs.advantages_T / NORMALIZER
    torch.testing.assert_close(logprobs_T.grad, wanted)


def test_metrics_count_each_trained_token_once() -> None:
    logprobs_T, entropy_T, inputs = _case()
    sums = policy_loss(logprobs_T, entropy_T, inputs, VARIANTS["supervised"]).sums.numpy()
    trains = inputs.mask_T.numpy() > 0
    correct = trains & (inputs.correct_T.numpy() > 0)
    entropy = entropy_T.numpy()
    assert sums[Sum.TOKENS] == trains.sum()
    assert sums[Sum.CORRECT_TOKENS] == correct.sum()
    np.testing.assert_allclose(sums[Sum.ENTROPY], entropy[trains].sum(), rtol=1e-6)
    np.testing.assert_allclose(sums[Sum.CORRECT_ENTROPY], entropy[correct].sum(), rtol=1e-6)
