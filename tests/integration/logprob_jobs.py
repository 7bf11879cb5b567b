"""What the ranks of a forked grid do to score a divided vocabulary; see ``tests.warm_parent``."""

from types import SimpleNamespace
from typing import Any

import torch

from e3mega.families.mapping import padded_vocab_size
from e3mega.learner.logprobs import score_tokens, vocab_scores
from e3mega.mcore.parallel import RankGrid
from tests.learner_cases import tiny_model

# Shape letters: T tokens, V vocabulary, W width.


def score_logits(
    grid: RankGrid, *, vocab_size: int, spread: float, temperature: float, num_chunks: int
) -> Any:
    """Scores of given logits, and the gradient of the logits of this rank's rows, as numpy.

    The hidden states are the rows of the identity, so that the head is the transposed logits.
    """
    logits_TV, targets_T, weights_2T = given_logits(vocab_size, spread)
    rows = padded_vocab_size(vocab_size, grid.layout.tp) // grid.layout.tp
    first = rows * grid.place.tp_rank
    head_VT = torch.zeros(rows, len(logits_TV))
    own_VT = logits_TV.T[first : first + rows]
    head_VT[: len(own_VT)] = own_VT
    head_VT.requires_grad_()
    found = vocab_scores(
        torch.eye(len(logits_TV)),
        head_VT,
        targets_T,
        vocab_size=vocab_size,
        temperature=temperature,
        group=grid.groups.tp,
        logits_per_chunk=rows * len(logits_TV) // num_chunks,
    )
    pair = (found.logprobs_T, found.entropy_T)
    total: Any = sum((w * x).sum() for w, x in zip(weights_2T, pair, strict=True))
    total.backward()
    assert head_VT.grad is not None
    assert not head_VT.grad[len(own_VT) :].any(), "padding rows have no gradient"
    gradient_TV = head_VT.grad[: len(own_VT)].T.contiguous()
    return tuple(each.detach().numpy() for each in (*pair, found.collision_T, gradient_TV))


def given_logits(vocab_size: int, spread: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, targets on every rank's rows and weights of log-probabilities and entropies."""
    generator = torch.Generator().manual_seed(1)
    logits_TV = spread * torch.randn(8, vocab_size, generator=generator)
    # The largest logit of the first token stands on the last rank, of the second on the first.
    logits_TV[0, -1] = logits_TV[1, 0] = 5 * spread
    targets_T = torch.tensor([0, 0, 1, vocab_size // 2 - 1, vocab_size // 2, 0, 0, 0])
    targets_T[5:] = vocab_size - 1 - torch.arange(3)
    return logits_TV, targets_T, torch.randn(2, 8, generator=generator)


def score_hidden(grid: RankGrid, *, vocab_size: int, width: int, temperature: float) -> Any:
    """Scores of hidden states and a head, and the gradient of the hidden states, as the learner
    takes them: divided among the ranks where the layout says so."""
    hidden_TW, head_VW, targets_T, weights_2T = given_hidden(vocab_size, width)
    tp, tp_rank = grid.layout.tp, grid.place.tp_rank
    padded_VW = torch.zeros(padded_vocab_size(vocab_size, tp), width)
    padded_VW[:vocab_size] = head_VW
    if grid.layout.sequence_parallel:
        hidden_TW = hidden_TW.chunk(tp)[tp_rank].contiguous()
    hidden_TW.requires_grad_()
    model = tiny_model().model_copy(update={"vocab_size": vocab_size})
    learner: Any = SimpleNamespace(grid=grid, model=model)
    found = score_tokens(
        learner,
        hidden_TW[:, None],
        padded_VW.chunk(tp)[tp_rank].clone(),
        targets_T,
        temperature=temperature,
    )
    pair = (found.logprobs_T, found.entropy_T)
    total: Any = sum((w * x).sum() for w, x in zip(weights_2T, pair, strict=True))
    total.backward()
    assert hidden_TW.grad is not None
    return tuple(each.detach().numpy() for each in (*pair, hidden_TW.grad))


def given_hidden(
    vocab_size: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, a head that gives logits of a few nats, targets and weights."""
    generator = torch.Generator().manual_seed(2)
    hidden_TW = torch.randn(24, width, generator=generator)
    head_VW = torch.randn(vocab_size, width, generator=generator) * (3 / width**0.5)
    targets_T = torch.randint(0, vocab_size, (24,), generator=generator)
    return hidden_TW, head_VW, targets_T, torch.randn(2, 24, generator=generator)
