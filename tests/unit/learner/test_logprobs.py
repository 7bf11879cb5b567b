"""Log-probabilities, entropies and their gradients against torch's own operations."""

from typing import Any

import pytest
import torch

from e3mega.learner.logprobs import token_logprobs

# Shape letters: T tokens, V vocabulary.


class _OneRank:
    """A group of one rank; no collective is called on it."""

    def size(self) -> int:
        return 1

    def rank(self) -> int:
        return 0


ALONE: Any = _OneRank()


def _reference(
    logits_TV: torch.Tensor, targets_T: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    table_TV = (logits_TV.double() / temperature).log_softmax(-1)
    entropy_T = -(table_TV.exp() * table_TV).sum(-1)
    return table_TV.gather(1, targets_T[:, None])[:, 0], entropy_T


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients_are_those_of_log_softmax(temperature: float) -> None:
    torch.manual_seed(0)
    logits_TV = (4 * torch.randn(9, 17)).requires_grad_()
    targets_T = torch.randint(0, 17, (9,))
    weights_2T = torch.randn(2, 9)

    def gradient(pair: tuple[torch.Tensor, ...]) -> torch.Tensor:
        total = sum((w * x).sum() for w, x in zip(weights_2T, pair, strict=True))
        (found,) = torch.autograd.grad(total, logits_TV)  # type: ignore  # sum of tensors
        return found

    scores = token_logprobs(logits_TV, targets_T, temperature=temperature, group=ALONE)
    found = (scores.logprobs_T, scores.entropy_T)
    probs_TV = (logits_TV.detach().double() / temperature).softmax(-1)
    torch.testing.assert_close(
        scores.collision_T.double(), (probs_TV**2).sum(-1), atol=1e-6, rtol=1e-5
    )
    assert not scores.collision_T.requires_grad
    wanted = _reference(logits_TV, targets_T, temperature)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient(found), gradient(wanted), atol=1e-5, rtol=1e-5)


def test_extreme_logits_stay_finite() -> None:
    logits_TV = torch.tensor([[500.0, -500.0, 0.0], [-1e4, -1e4, -1e4]], requires_grad=True)
    scores = token_logprobs(logits_TV, torch.tensor([1, 2]), temperature=1.0, group=ALONE)
    logprobs_T, entropy_T = scores.logprobs_T, scores.entropy_T
    assert logprobs_T.tolist() == pytest.approx([-1000.0, -1.0986123], rel=1e-6)
    assert entropy_T.tolist() == pytest.approx([0.0, 1.0986123], abs=1e-6)
    (logprobs_T.sum() + entropy_T.sum()).backward()
    assert logits_TV.grad is not None
    assert logits_TV.grad.isfinite().all()
