"""Budget forcing: each time the model ends, its end is taken away and it is told to wait."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tokenizers import Tokenizer

from e3mega.errors import E3Error
from e3mega.evaluate.sampling import Source
from e3mega.rollout.records import Completion, FinishReason, Group, GroupRequest, Rollout
from e3mega.tasks.interface import Task


@dataclass(frozen=True, slots=True)
class ForcedPoint:
    """Outcome after a number of waits. Example: ``ForcedPoint(2, 96.5, .41, .02)``.

    arXiv 2506.09026, Fig. 10c draws accuracy over the mean number of tokens.
    """

    num_waits: int
    mean_tokens: float
    accuracy_P: tuple[float, ...]
    """Mean over its samples of each problem."""


@dataclass(frozen=True, slots=True)
class ForcingWords:
    """Token ids of the words of budget forcing. Example: ``ForcingWords((9,), (4, 7), (1,))``."""

    wait: tuple[int, ...]
    """Put where the model ended."""
    end_of_thinking: tuple[int, ...]
    """Cut off with all that follows; empty where thinking has no end of its own."""
    end_tokens: tuple[int, ...]
    """Tokens that end a completion."""


def forcing_words(
    tokenizer: Tokenizer, wait_text: str, end_of_thinking: str, *, end_tokens: tuple[int, ...]
) -> ForcingWords:
    """The words in the model's own tokens; E3Error when it has no tokens for ``wait_text``.

    An end of thinking that it has no tokens for is one that it never writes.
    """
    wait = _written(tokenizer, wait_text)
    if wait is None:
        raise E3Error(
            f"--wait-text {wait_text!r}: the model's tokenizer has no tokens for it; choose words "
            "of its vocabulary, or '' to take away its end and say nothing"
        )
    return ForcingWords(wait, _written(tokenizer, end_of_thinking) or (), end_tokens)


def _written(tokenizer: Tokenizer, text: str) -> tuple[int, ...] | None:
    """The text's tokens, or None when they do not give it back."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    back: str = tokenizer.decode(ids, skip_special_tokens=False)
    return tuple(ids) if back.split() == text.split() else None


def continuation(token_ids: Sequence[int], words: ForcingWords) -> tuple[int, ...]:
    """The completion up to where its thinking ended, with the words of waiting behind it."""
    kept = list(token_ids)
    while kept and kept[-1] in words.end_tokens:
        kept.pop()
    size = len(words.end_of_thinking)
    for at in range(len(kept) - size + 1) if size else ():
        if tuple(kept[at : at + size]) == words.end_of_thinking:
            kept = kept[:at]
            break
    return (*kept, *words.wait)


async def forced_curve(
    groups: Sequence[Group],
    source: Source,
    task: Task,
    words: ForcingWords,
    *,
    max_waits: int,
    seed: int,
) -> tuple[ForcedPoint, ...]:
    """Outcomes after 0 to ``max_waits`` waits, within the budget that the groups had.

    A completion that its budget cut stays as it is: there is no end to take away. ``seed`` and
    the next ones up to ``max_waits`` times the number of completions are used.
    """
    budget = groups[0].request.max_tokens
    points = [_point(0, groups)]
    for num_waits in range(1, max_waits + 1):
        requests: list[GroupRequest] = []
        places: list[tuple[int, int]] = []
        for g, group in enumerate(groups):
            for s, rollout in enumerate(group.rollouts):
                prefix = continuation(rollout.completion.token_ids, words)
                is_cut = rollout.completion.finish_reason is FinishReason.LENGTH
                if is_cut or len(prefix) >= budget:
                    continue
                request = _request(group.request, prefix, budget, seed, len(requests), num_waits)
                requests.append(request)
                places.append((g, s))
        answers = await source.completions(requests)
        rows = [list(group.rollouts) for group in groups]
        for (g, s), request, (answer,) in zip(places, requests, answers, strict=True):
            prompt = groups[g].request.prompt
            completion = _joined(request, answer, len(prompt.token_ids))
            marks = await task.judge(prompt, completion.token_ids)
            rows[g][s] = Rollout(completion, marks)
        groups = [
            replace(group, rollouts=tuple(row)) for group, row in zip(groups, rows, strict=True)
        ]
        points.append(_point(num_waits, groups))
    return tuple(points)


def _request(
    base: GroupRequest,
    prefix: tuple[int, ...],
    budget: int,
    seed: int,
    index: int,
    num_waits: int,
) -> GroupRequest:
    prompt = replace(base.prompt, token_ids=(*base.prompt.token_ids, *prefix))
    return replace(
        base,
        index=index,
        prompt=prompt,
        num_samples=1,
        max_tokens=budget - len(prefix),
        # A million seeds for each number of waits: no two requests share one.
        seed=seed + num_waits * 1_000_000 + index,
    )


def _joined(request: GroupRequest, answer: Completion, num_prompt_tokens: int) -> Completion:
    """What the problem's own prompt was answered with: the words before, and the new ones."""
    before = request.prompt.token_ids[num_prompt_tokens:]
    return replace(
        answer,
        token_ids=(*before, *answer.token_ids),
        logprobs=(*[0.0] * len(before), *answer.logprobs),
    )


def _point(num_waits: int, groups: Sequence[Group]) -> ForcedPoint:
    lengths = [len(r.completion.token_ids) for group in groups for r in group.rollouts]
    rewards = tuple(
        sum(r.marks.reward > 0 for r in group.rollouts) / len(group.rollouts) for group in groups
    )
    return ForcedPoint(num_waits, sum(lengths) / len(lengths), rewards)
