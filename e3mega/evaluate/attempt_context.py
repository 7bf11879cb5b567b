"""What one attempt tells the next: Fig. 14 of the e3 paper, from log-probabilities of attempts.

With a_k the tokens of attempt k and log p their mean log-probability per token, in nats:

* context: log p(a_k | a_1..a_{k-1}) - log p(a_k | a_1..a_{k-2}), what the last attempt adds;
* progress: log p(a_k | a_1..a_{k-1}) - log p(a_{k-1} | a_1..a_{k-2});
* repeat: log p(a_{k-1} | a_1..a_{k-1}), how likely it is to make the last attempt again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from e3mega.evaluate.sampling import Source
from e3mega.rollout.records import Group
from e3mega.tasks.interface import Task


@dataclass(frozen=True, slots=True)
class ContextPoint:
    """Means at one attempt. Example: ``ContextPoint(2, 64, 0.1, 0.02, 0.01, -1.3)``."""

    attempt: int
    """k, from 2."""
    num_completions: int
    context: float
    context_stderr: float
    """Standard error over completions, one of each problem."""
    progress: float
    repeat: float


@dataclass(frozen=True, slots=True)
class _Chain:
    """The attempts of one completion, behind its prompt."""

    prompt: tuple[int, ...]
    attempts: tuple[tuple[int, ...], ...]

    def up_to(self, count: int) -> tuple[int, ...]:
        """The prompt and the first ``count`` attempts."""
        return self.prompt + tuple(token for each in self.attempts[:count] for token in each)


async def attempt_contexts(
    groups: Sequence[Group], task: Task, source: Source, *, num_problems: int, max_attempts: int
) -> tuple[ContextPoint, ...]:
    """One point for each k up to ``max_attempts`` that a chain reaches.

    Reads one completion of each of the first ``num_problems`` groups that have one with two
    attempts or more.
    """
    found = [chain for group in groups if (chain := _chain(group, task, max_attempts)) is not None]
    chains = found[:num_problems]
    sequences = [sequence for chain in chains for sequence in _sequences(chain)]
    scores = iter(await source.scores(sequences))
    rows: dict[int, list[tuple[float, float, float]]] = {}
    for chain in chains:
        whole = next(scores)
        ends = np.cumsum([len(chain.prompt) - 1, *map(len, chain.attempts)])
        plain = [float(np.mean(whole[start:end])) for start, end in pairwise(ends.tolist())]
        for place in range(1, len(chain.attempts)):
            without, again = next(scores), next(scores)
            values = (
                plain[place] - float(np.mean(without[-len(chain.attempts[place]) :])),
                plain[place] - plain[place - 1],
                float(np.mean(again[-len(chain.attempts[place - 1]) :])),
            )
            rows.setdefault(place + 1, []).append(values)
    return tuple(_point(attempt, rows[attempt]) for attempt in sorted(rows))


def _chain(group: Group, task: Task, max_attempts: int) -> _Chain | None:
    """The group's first completion with two attempts or more."""
    prompt = group.request.prompt
    for rollout in group.rollouts:
        token_ids = rollout.completion.token_ids
        ends = [each.end for each in task.attempts(prompt, token_ids)][:max_attempts]
        if len(ends) > 1:
            return _Chain(
                prompt.token_ids,
                tuple(token_ids[start:end] for start, end in pairwise((0, *ends))),
            )
    return None


def _sequences(chain: _Chain) -> list[tuple[int, ...]]:
    """The whole chain; then for each k from 2: a_k without a_{k-1}, and a_{k-1} twice."""
    found = [chain.up_to(len(chain.attempts))]
    for place in range(1, len(chain.attempts)):
        found.append(chain.up_to(place - 1) + chain.attempts[place])
        found.append(chain.up_to(place) + chain.attempts[place - 1])
    return found


def _point(attempt: int, values: Sequence[tuple[float, float, float]]) -> ContextPoint:
    context, progress, repeat = np.array(values).T
    num = len(values)
    stderr = float(context.std(ddof=1) / np.sqrt(num)) if num > 1 else float("nan")
    return ContextPoint(
        attempt, num, float(context.mean()), stderr, float(progress.mean()), float(repeat.mean())
    )
