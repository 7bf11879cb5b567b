"""Countdown as a task: prompts, traces, probes, marks and the tokenizer."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path

from e3mega.errors import E3Error
from e3mega.tasks.countdown.language import (
    END,
    EQUALS,
    HIT,
    MISS,
    OPEN_ANSWER,
    problem_text,
    prompt_text,
    read_problem,
    vocabulary,
)
from e3mega.tasks.countdown.options import CountdownOptions, Half
from e3mega.tasks.countdown.problems import Problem
from e3mega.tasks.countdown.split import split_problems
from e3mega.tasks.countdown.traces import TraceWriter
from e3mega.tasks.countdown.verifier import CountdownVerifier
from e3mega.tasks.interface import Attempt, Marks, Probe, Prompt, Trace
from e3mega.tasks.pinned import check_pin
from e3mega.tasks.shuffled_stream import ShuffledStream
from e3mega.tasks.text_problems import TextProblem, read_problems
from e3mega.tasks.word_tokenizer import WordTokenizer

# Every random stream of the task has a number of its own behind the seed; 1 is the split.
_PROMPTS, _TRACE_PROMPTS, _TRACES, _HELD_OUT, _PROBES = 2, 3, 4, 5, 6


class CountdownTask:
    """The task of one stage; see ``interface.Task``.

    Options that say how traces look and which half is trained do not move the held-out split.
    """

    def __init__(self, options: CountdownOptions, seed: int) -> None:
        self._tokenizer = WordTokenizer(vocabulary(options))
        self._verifier = CountdownVerifier(self._tokenizer, options.num_numbers)
        self.end_token_ids = (self._tokenizer.id_of[END],)
        split = split_problems(options, seed)
        halves = (Half.EASY, Half.HARD) if options.half is Half.ALL else (options.half,)
        self._graded = _graded(options)
        self._training = [
            (half, problem)
            for half in halves
            for problem in split.training[half]
            if self._graded is None or (problem.numbers, problem.target) in self._graded
        ]
        if not self._training:
            raise E3Error(
                f"task.held_out_frac = {options.held_out_frac} leaves no problem to train on"
                if options.problems is None
                else f"task.problems = {options.problems}: no training problem is in it"
            )
        easy, hard = split.held_out[Half.EASY], split.held_out[Half.HARD]
        pairs = (((Half.EASY, e), (Half.HARD, h)) for e, h in zip(easy, hard, strict=False))
        self._held_out = list(chain.from_iterable(pairs))
        size, parts = len(self._training), options.num_numbers
        self._prompts = ShuffledStream(size, num_parts=parts, entropy=(seed, _PROMPTS))
        self._trace_prompts = ShuffledStream(size, num_parts=parts, entropy=(seed, _TRACE_PROMPTS))
        self._orders = ShuffledStream(
            max(1, len(self._held_out)), num_parts=parts, entropy=(seed, _HELD_OUT)
        )
        self._writer = TraceWriter(options, (seed, _TRACES))
        self._verdicts = {self._tokenizer.id_of[word] for word in (HIT, MISS)}
        self._equals = self._tokenizer.id_of[EQUALS]
        self._exact_weight = options.trace_exact_weight
        self._probe_writer = TraceWriter(options, (seed, _PROBES))
        self._read = lru_cache(maxsize=4096)(read_problem)

    @property
    def num_held_out(self) -> int:
        """Held-out prompts there are, half of them of each slice."""
        return len(self._held_out)

    @property
    def num_training(self) -> int:
        """Problems of the slice that may be trained on."""
        return len(self._training)

    def _prompt(self, half: Half, problem: Problem, order: Sequence[int]) -> Prompt:
        numbers = [problem.numbers[i] for i in order]
        graded = (self._graded or {}).get((problem.numbers, problem.target))
        return Prompt(
            problem_text(numbers, problem.target),
            self._tokenizer.ids(prompt_text(numbers, problem.target)),
            half.value if graded is None else graded.slice_name,
            None if graded is None else graded.pass_rate,
        )

    def training_prompt(self, index: int) -> Prompt:
        """Prompt number ``index``: each problem of the slice once an epoch, numbers shuffled."""
        position, order = self._prompts.at(index)
        return self._prompt(*self._training[position], order)

    def held_out_prompts(self, count: int) -> tuple[Prompt, ...]:
        """The first ``count`` held-out prompts, easy and hard by turns.

        Raises E3Error when there are fewer.
        """
        if count > len(self._held_out):
            raise E3Error(
                f"task: asked for {count} held-out Countdown problems; there are "
                f"{len(self._held_out)}; raise task.held_out_frac or lower the evaluation's count"
            )
        return tuple(self._held_out_prompt(index) for index in range(count))

    def _held_out_prompt(self, index: int) -> Prompt:
        _, order = self._orders.at(index)
        return self._prompt(*self._held_out[index], order)

    def trace(self, index: int) -> Trace:
        """Supervised trace number ``index`` on a training problem of the slice.

        Most of a trace's tokens are free choices, whose noise hides the few that follow from
        those before, so the latter may weigh more.
        """
        position, order = self._trace_prompts.at(index)
        half, problem = self._training[position]
        text, has_hit = self._writer.completion(index, problem)
        token_ids = self._tokenizer.ids(text)
        weights = tuple([self._weight(*pair) for pair in pairwise((-1, *token_ids))])
        return Trace(self._prompt(half, problem, order), token_ids, has_hit, weights)

    def _weight(self, previous: int, token: int) -> float:
        is_exact = previous == self._equals or token in self._verdicts
        return self._exact_weight if is_exact else 1.0

    def probes(self, count: int) -> tuple[Probe, ...]:
        """Probes on held-out problems from the last one back, hits and misses by turns."""
        assert self._held_out, "probes need held-out problems"
        return tuple(self._probe(index) for index in range(count))

    def _probe(self, index: int) -> Probe:
        position = len(self._held_out) - 1 - index // 2 % len(self._held_out)
        prompt = self._held_out_prompt(position)
        is_hit = index % 2 == 0
        text = self._probe_writer.probe(index, self._held_out[position][1], is_hit=is_hit)
        return Probe(prompt.token_ids + self._tokenizer.ids(text), len(prompt.token_ids), is_hit)

    def mark(self, prompt: Prompt, token_ids: Sequence[int]) -> Marks:
        """Verify a completion; never raises on what a model wrote."""
        numbers, target = self._read(prompt.problem)
        return self._verifier.mark(numbers, target, token_ids)

    def attempts(self, prompt: Prompt, token_ids: Sequence[int]) -> tuple[Attempt, ...]:
        """The attempts of a completion, each with its verdict."""
        numbers, target = self._read(prompt.problem)
        return self._verifier.attempts(numbers, target, token_ids)

    @property
    def answer_cue(self) -> tuple[int, ...]:
        """The word that opens an answer."""
        return self._tokenizer.ids(OPEN_ANSWER)

    async def judge(self, prompt: Prompt, token_ids: Sequence[int]) -> Marks:
        """The marks; the verifier is exact and quick, so no worker is asked."""
        return self.mark(prompt, token_ids)

    async def close(self) -> None:
        """Nothing to end."""

    def text(self, token_ids: Sequence[int]) -> str:
        """The tokens as words."""
        return self._tokenizer.text(token_ids)

    def write_tokenizer(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json in Hugging Face format."""
        self._tokenizer.write(folder)


def _graded(
    options: CountdownOptions,
) -> dict[tuple[tuple[int, ...], int], TextProblem] | None:
    """The training problems of the graded file by their numbers, ascending, and target."""
    if options.problems is None:
        return None
    check_pin("task.problems", options.problems, options.problems_sha256)
    found: dict[tuple[tuple[int, ...], int], TextProblem] = {}
    for problem in read_problems(options.problems).training:
        numbers, target = read_problem(problem.text)
        found[tuple(sorted(numbers)), target] = problem
    return found
