"""Log-probabilities, entropies and their gradients against torch's own operations in float64."""

from typing import Any

import pytest
import torch

from e3mega.learner.logprobs import TokenScores, vocab_scores

# Shape letters: T tokens, V vocabulary, W width.


class _OneRank:
    """A group of one rank; no collective is called on it."""

    def size(self) -> int:
        return 1

    def rank(self) -> int:
        return 0


ALONE: Any = _OneRank()


def _scores(
    hidden_TW: torch.Tensor, head_VW: torch.Tensor, targets_T: torch.Tensor, **options: Any
) -> TokenScores:
    options = {"temperature": 1.0, "vocab_size": len(head_VW), "group": ALONE} | options
    return vocab_scores(hidden_TW, head_VW, targets_T, **options)


def _reference(
    logits_TV: torch.Tensor, targets_T: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    table_TV = (logits_TV.double() / temperature).log_softmax(-1)
    entropy_T = -(table_TV.exp() * table_TV).sum(-1)
    return table_TV.gather(1, targets_T[:, None])[:, 0], entropy_T


@pytest.mark.parametrize("num_chunks", [1, 3, 9])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients_are_those_of_log_softmax(temperature: float, num_chunks: int) -> None:
    """Nine tokens, of a vocabulary of 60 rows and 4 of padding, in chunks of equal size."""
    torch.manual_seed(0)
    hidden_TW = torch.randn(9, 12).requires_grad_()
    head_VW = torch.randn(64, 12).requires_grad_()
    targets_T = torch.randint(0, 60, (9,))
    weights_2T = torch.randn(2, 9)

    def gradients(pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        total: Any = sum((w * x).sum() for w, x in zip(weights_2T, pair, strict=True))
        return torch.autograd.grad(total, (hidden_TW, head_VW), retain_graph=True)

    found = _scores(
        hidden_TW,
        head_VW,
        targets_T,
        temperature=temperature,
        vocab_size=60,
        logits_per_chunk=64 * 9 // num_chunks,
    )
    pair = (found.logprobs_T, found.entropy_T)
    logits_TV = (hidden_TW @ head_VW.T)[:, :60]
    wanted = _reference(logits_TV, targets_T, temperature)
    for one, other in zip(pair, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-5, rtol=1e-5)
    probs_TV = (logits_TV / temperature).softmax(-1)
    torch.testing.assert_close(found.collision_T, probs_TV.square().sum(-1))
    for one, other in zip(gradients(pair), gradients(wanted), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert not gradients(pair)[1][60:].any(), "padding rows have no gradient"


@pytest.mark.parametrize("spread", [1.0, 30.0])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_a_large_vocabulary_is_exact_to_a_millionth(temperature: float, spread: float) -> None:
    """Within 1e-6 max(1, |logit / T|) of float64, at the size of Qwen3's vocabulary."""
    torch.manual_seed(1)
    num_rows = 151_936
    logits_TV = spread * torch.randn(5, num_rows)
    targets_T = torch.randint(0, num_rows, (5,))
    # A width of the vocabulary's rank would be slow: the head is the transposed logits.
    found = _scores(torch.eye(5), logits_TV.T.contiguous(), targets_T, temperature=temperature)
    bound_T = 1e-6 * (logits_TV.abs().amax(1) / temperature).clamp_min(1.0)
    for one, other in zip(
        (found.logprobs_T, found.entropy_T),
        _reference(logits_TV, targets_T, temperature),
        strict=True,
    ):
        assert ((one.double() - other).abs() <= bound_T).all(), (one.double() - other, bound_T)


def test_logits_of_a_long_sequence_never_stand_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """16k tokens: no matrix product, forward or backward, has more than one chunk of tokens."""
    from e3mega.learner import logprobs

    sizes: list[int] = []
    logits = logprobs._logits

    def watched(*arguments: Any) -> torch.Tensor:
        found = logits(*arguments)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(logprobs, "_logits", watched)
    hidden_TW = torch.randn(16_384, 4, requires_grad=True)
    head_VW = torch.randn(1024, 4, requires_grad=True)
    targets_T = torch.randint(0, 1024, (16_384,))
    found = _scores(hidden_TW, head_VW, targets_T, logits_per_chunk=1 << 20)
    found.logprobs_T.sum().backward()
    assert max(sizes) <= 1 << 20
    assert sum(sizes) == 2 * 16_384 * 1024, "once forward, once again backward"


def test_extreme_logits_stay_finite() -> None:
    logits_TV = torch.full((2, 64), -torch.tensor(1e4))
    logits_TV[0, :3] = torch.tensor([500.0, -500.0, 0.0])
    head_VW = logits_TV.T.contiguous().requires_grad_()
    found = _scores(torch.eye(2), head_VW, torch.tensor([1, 2]))
    uniform = torch.tensor(64.0).log().item()
    assert found.logprobs_T.tolist() == pytest.approx([-1000.0, -uniform], rel=1e-6)
    assert found.entropy_T.tolist() == pytest.approx([0.0, uniform], abs=1e-6)
    (found.logprobs_T.sum() + found.entropy_T.sum()).backward()
    assert head_VW.grad is not None
    assert head_VW.grad.isfinite().all()
