"""A loss's gradient on recorded rollouts by transformers' model and the formulas of the tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from e3mega.rollout.records import FinishReason, Group
from tests.loss_formulas import Case, derive


@dataclass(frozen=True)
class Measured:
    """What ``e3mega replay`` tells of a loss."""

    norm: float
    norm_positive: float
    norm_negative: float
    cosine: float
    entropy_change: float


class HfGradients:
    """On the weights of a Hugging Face folder, in float64, at the first step of a round.

    The policy is then the one at the round's start, and at a stage's start the reference too.
    """

    def __init__(self, folder: Path, groups: Sequence[Group], temperature: float) -> None:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        rollouts = [[rollout.completion for rollout in group.rollouts] for group in groups]
        logprobs: list[list[torch.Tensor]] = []
        entropies: list[torch.Tensor] = []
        for group, row in zip(groups, rollouts, strict=True):
            logprobs.append([])
            for completion in row:
                prompt = group.request.prompt.token_ids
                tokens = torch.tensor([[*prompt, *completion.token_ids]])
                logits = model(tokens).logits[0, len(prompt) - 1 : -1] / temperature
                words = logits.log_softmax(1)
                entropies.append(-(words.exp() * words).sum(1))
                picked = words.gather(1, torch.tensor(completion.token_ids)[:, None])
                logprobs[-1].append(picked[:, 0])
        rewards = [[rollout.marks.reward for rollout in group.rollouts] for group in groups]
        values = [[each.detach().numpy() for each in row] for row in logprobs]
        cut = [[each.finish_reason is FinishReason.LENGTH for each in row] for row in rollouts]
        ones = [[np.ones(len(each)) for each in row] for row in values]
        self._case = Case(rewards, cut, values, values, values, ones)
        self._logprobs = torch.cat([each for row in logprobs for each in row])
        self._entropy_fall = self._gradient(-torch.cat(entropies).mean())

    def of(self, name: str, entropy_coefficient: float = 0.0) -> torch.Tensor:
        """The whole gradient of a named loss, flat."""
        slopes = torch.from_numpy(derive(name, self._case).slopes)
        policy = self._gradient((slopes * self._logprobs).sum())
        return policy + entropy_coefficient * self._entropy_fall

    def measured(self, name: str, taken: torch.Tensor) -> Measured:
        """The same beside the gradient that was taken; minus the objective falls for right ones."""
        slopes = torch.from_numpy(derive(name, self._case).slopes)
        by_sign = [
            self._gradient((slopes * (slopes * sign > 0) * self._logprobs).sum())
            for sign in (-1, 1)
        ]
        whole = self.of(name)
        norm = float(whole.norm())
        return Measured(
            norm=norm,
            norm_positive=float(by_sign[0].norm()),
            norm_negative=float(by_sign[1].norm()),
            cosine=float(whole @ taken / norm / taken.norm()) if norm else 0.0,
            entropy_change=float(whole @ self._entropy_fall) / norm if norm else 0.0,
        )

    def _gradient(self, value: torch.Tensor) -> torch.Tensor:
        parts = torch.autograd.grad(value, self._parameters, retain_graph=True)
        return torch.cat([part.flatten() for part in parts])
