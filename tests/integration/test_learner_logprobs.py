"""Log-probabilities and entropies of a vocabulary that real ranks share, against float64."""

from typing import Any

import numpy as np
import pytest
import torch

from e3mega.spec.schema.layout import LearnerLayout
from tests.integration.logprob_jobs import given_hidden, given_logits
from tests.warm_parent import WarmParent

JOBS = "tests.integration.logprob_jobs"

# Shape letters: T tokens, V vocabulary, W width.


def reference(
    logits_TV: torch.Tensor, targets_T: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities, entropies and collisions in float64, of the whole vocabulary."""
    table_TV = (logits_TV.double() / temperature).log_softmax(-1)
    probs_TV = table_TV.exp()
    logprobs_T = table_TV.gather(1, targets_T[:, None])[:, 0]
    return logprobs_T, -(probs_TV * table_TV).sum(-1), probs_TV.square().sum(-1)


def within(found: Any, wanted: torch.Tensor, logits_TV: torch.Tensor, temperature: float) -> None:
    """Of every token to 1e-6 max(1, |largest logit / T|)."""
    bound_T = 1e-6 * (logits_TV.detach().abs().amax(1) / temperature).clamp_min(1.0)
    error_T = (torch.from_numpy(found).double() - wanted.detach()).abs()
    assert (error_T <= bound_T).all(), (error_T, bound_T)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("spread", [1.0, 30.0])
@pytest.mark.parametrize(("vocab_size", "num_chunks"), [(70, 1), (151_936, 4)])
def test_two_ranks_score_a_vocabulary_to_a_millionth(
    warm_parent: WarmParent, vocab_size: int, num_chunks: int, spread: float, temperature: float
) -> None:
    """Targets, and the largest logits, stand on both ranks; 70 rows are padded."""
    case = {"vocab_size": vocab_size, "spread": spread, "temperature": temperature}
    layout = LearnerLayout(tp=2)
    ranks = warm_parent.run(layout, f"{JOBS}:score_logits", num_chunks=num_chunks, **case)
    logits_TV, targets_T, weights_2T = given_logits(vocab_size, spread)
    logits_TV = logits_TV.double().requires_grad_()
    logprobs_T, entropy_T, collision_T = reference(logits_TV, targets_T, temperature)
    total: Any = (weights_2T[0] * logprobs_T).sum() + (weights_2T[1] * entropy_T).sum()
    total.backward()
    assert logits_TV.grad is not None
    for found_T, found_entropy_T, found_collision_T, _ in ranks:
        within(found_T, logprobs_T, logits_TV, temperature)
        within(found_entropy_T, entropy_T, logits_TV, temperature)
        np.testing.assert_allclose(found_collision_T, collision_T.detach(), atol=1e-6, rtol=1e-5)
    gradient_TV = np.concatenate([rank[3] for rank in ranks], axis=1)
    largest = float(logits_TV.grad.abs().max())
    np.testing.assert_allclose(gradient_TV, logits_TV.grad, atol=1e-5 * largest, rtol=1e-4)


@pytest.mark.parametrize("is_divided", [False, True], ids=["whole", "sequence-parallel"])
def test_two_ranks_score_hidden_states_to_a_millionth(
    warm_parent: WarmParent, is_divided: bool
) -> None:
    """The product with the head is in fp32 on the ranks and in float64 in the reference."""
    case: dict[str, Any] = {"vocab_size": 1000, "width": 256, "temperature": 0.7}
    layout = LearnerLayout(tp=2, sequence_parallel=is_divided)
    ranks = warm_parent.run(layout, f"{JOBS}:score_hidden", **case)
    hidden_TW, head_VW, targets_T, weights_2T = given_hidden(case["vocab_size"], case["width"])
    hidden_TW = hidden_TW.double().requires_grad_()
    logits_TV = hidden_TW @ head_VW.double().T
    logprobs_T, entropy_T, _ = reference(logits_TV, targets_T, case["temperature"])
    total: Any = (weights_2T[0] * logprobs_T).sum() + (weights_2T[1] * entropy_T).sum()
    total.backward()
    for found_T, found_entropy_T, _ in ranks:
        within(found_T, logprobs_T, logits_TV, case["temperature"])
        within(found_entropy_T, entropy_T, logits_TV, case["temperature"])
    gradients = [rank[2] for rank in ranks]
    gradient_TW = np.concatenate(gradients) if is_divided else gradients[0]
    assert hidden_TW.grad is not None
    np.testing.assert_allclose(gradient_TW, hidden_TW.grad, atol=1e-5, rtol=1e-4)
