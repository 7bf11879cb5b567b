"""A task of plain text: the interface of the loop over a form, a tokenizer and its problems."""

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from e3mega.errors import E3Error
from e3mega.tasks.failure import Failure
from e3mega.tasks.grading_pool import GradingLimits, GradingPool
from e3mega.tasks.interface import Attempt, Marks, Probe, Prompt, Trace
from e3mega.tasks.pinned import check_pin
from e3mega.tasks.recorded_traces import RecordedTrace, read_traces
from e3mega.tasks.shuffled_stream import ShuffledStream
from e3mega.tasks.text_form import TextAttempt, TextForm
from e3mega.tasks.text_options import GradingOptions, TextOptions
from e3mega.tasks.text_problems import ProblemSet, TextProblem, read_problems
from e3mega.tasks.text_tokenizer import TextTokenizer

# Every random stream of the task has a number of its own behind the seed.
_PROMPTS, _TRACES = 2, 3
_MAX_TRIES = 64


class TextTask:
    """See ``interface.Task``; problems and traces are made or read when first asked for."""

    def __init__(
        self,
        form: TextForm,
        options: TextOptions,
        grading: GradingOptions,
        tokenizer: TextTokenizer,
        seed: int,
    ) -> None:
        self._form = form
        self._options = options
        self._tokenizer = tokenizer
        self._seed = seed
        self._pool = GradingPool(_limits(form.grader, grading)) if form.grader else None
        self._recorded: list[RecordedTrace] | None = None
        self.end_token_ids = tokenizer.end_token_ids

    @classmethod
    def from_folder(
        cls,
        form: TextForm,
        options: TextOptions,
        grading: GradingOptions,
        folder: Path,
        seed: int,
    ) -> "TextTask":
        """The task with the tokenizer of a model's folder."""
        return cls(form, options, grading, TextTokenizer(folder), seed)

    @cached_property
    def _own(self) -> ProblemSet:
        """The form's own problems whose prompts are short enough."""
        return self._fitting(self._form.problems())

    @cached_property
    def _graded(self) -> ProblemSet | None:
        """Those of the file of graded problems; None without one."""
        file = self._options.problems
        if file is None:
            return None
        check_pin("task.problems", file, self._options.problems_sha256)
        return self._fitting(read_problems(file))

    @cached_property
    def _training(self) -> tuple[TextProblem, ...]:
        return (self._own if self._graded is None else self._graded).training

    @cached_property
    def _held_out(self) -> tuple[TextProblem, ...]:
        """The file's, or, where it has none, those of the form that the file does not train on."""
        if self._graded is None:
            return self._own.held_out
        trained = {problem.text for problem in self._graded.training}
        own = () if self._graded.held_out else self._own.held_out
        return self._graded.held_out or tuple(each for each in own if each.text not in trained)

    def _fitting(self, found: ProblemSet) -> ProblemSet:
        kept = ProblemSet(
            tuple(problem for problem in found.training if self._fits(problem)),
            tuple(problem for problem in found.held_out if self._fits(problem)),
        )
        if not kept.training and not kept.held_out:
            raise E3Error(
                f"task: none of its {len(found.training) + len(found.held_out)} problems has a "
                f"prompt of at most {self._options.max_prompt_tokens} tokens; raise "
                "task.max_prompt_tokens"
            )
        return kept

    def _fits(self, problem: TextProblem) -> bool:
        return len(self._prompt_ids(problem.text)) <= self._options.max_prompt_tokens

    def _prompt_ids(self, problem: str) -> tuple[int, ...]:
        text = self._form.prompt(problem)
        if self._options.uses_chat_template:
            text = self._tokenizer.user_turn(text)
        return self._tokenizer.ids(text)

    def _prompt(self, problem: TextProblem) -> Prompt:
        ids = self._prompt_ids(problem.text)
        return Prompt(problem.text, ids, problem.slice_name, problem.pass_rate)

    @property
    def num_training(self) -> int:
        """Training problems: one epoch of the stream."""
        return len(self._training)

    @property
    def num_held_out(self) -> int:
        """Held-out problems."""
        return len(self._held_out)

    @cached_property
    def _stream(self) -> ShuffledStream:
        if not self._training:
            raise E3Error("task: it has no training problems; name a source that has some")
        return ShuffledStream(self.num_training, num_parts=1, entropy=(self._seed, _PROMPTS))

    def training_prompt(self, index: int) -> Prompt:
        """Prompt number ``index``: each problem once an epoch."""
        return self._prompt(self._training[self._stream.at(index)[0]])

    def held_out_prompts(self, count: int) -> tuple[Prompt, ...]:
        """The first ``count`` held-out prompts; E3Error when there are fewer."""
        if count > self.num_held_out:
            raise E3Error(
                f"task: asked for {count} held-out problems; there are {self.num_held_out}; hold "
                "more out or lower the evaluation's count"
            )
        return tuple(map(self._prompt, self._held_out[:count]))

    @cached_property
    def _traces(self) -> tuple[RecordedTrace, ...]:
        assert self._options.traces is not None, "the task has a file of traces"
        check_pin("task.traces", self._options.traces, self._options.traces_sha256)
        return read_traces(self._options.traces)

    @cached_property
    def _trace_stream(self) -> ShuffledStream:
        size = len(self._traces) if self._options.traces else self.num_training
        return ShuffledStream(size, num_parts=1, entropy=(self._seed, _TRACES))

    def trace(self, index: int) -> Trace:
        """Trace number ``index``; one that is too long gives way to another.

        Raises E3Error when the task has no traces, or none that is short enough.
        """
        for attempt in range(_MAX_TRIES):
            # Far behind all indices, so that no other trace is the replacement too.
            trace = self._trace(index + attempt * (1 << 40))
            if len(trace.token_ids) <= self._options.max_trace_tokens:
                return trace
        raise E3Error(
            f"task: {_MAX_TRIES} traces in a row are longer than task.max_trace_tokens = "
            f"{self._options.max_trace_tokens}; raise it"
        )

    def _trace(self, index: int) -> Trace:
        if self._options.traces:
            recorded = self._traces[self._trace_stream.at(index)[0]]
            prompt = self._prompt(TextProblem(recorded.problem, recorded.slice_name))
            return self._whole(prompt, recorded.text, has_hit=recorded.is_right)
        problem = self._training[self._trace_stream.at(index)[0]]
        written = self._form.trace(problem.text, index)
        if written is None:
            raise E3Error(
                "task: it writes no supervised traces of its own; set task.traces to a file of "
                "recorded completions (e3mega grade writes one)"
            )
        return self._whole(self._prompt(problem), written.text, has_hit=written.has_hit)

    def _whole(self, prompt: Prompt, text: str, *, has_hit: bool) -> Trace:
        for end in self.end_token_ids:
            text = text.removesuffix(self._tokenizer.text([end]))
        ids = (*self._tokenizer.ids(text), self.end_token_ids[0])
        weights = tuple([self._weight_of.get(token, 1.0) for token in ids])
        return Trace(prompt, ids, has_hit, weights)

    @cached_property
    def _weight_of(self) -> dict[int, float]:
        """Of verdicts that are one token; a longer one is no place to put a weight."""
        tokens = [self._tokenizer.ids(word) for word in self._form.verdicts]
        weight = self._options.trace_verdict_weight
        return {ids[0]: weight for ids in tokens if len(ids) == 1}

    def probes(self, count: int) -> tuple[Probe, ...]:
        """Probes on held-out problems from the last one back, hits and misses by turns."""
        return tuple(self._probe(index) for index in range(count))

    def _probe(self, index: int) -> Probe:
        if not self._held_out:
            raise E3Error("task: it has no held-out problems to probe; hold some out")
        problem = self._held_out[-1 - index // 2 % self.num_held_out]
        is_hit = index % 2 == 0
        text = self._form.probe(problem.text, index, is_hit=is_hit)
        if text is None:
            raise E3Error(
                "task: its language has no verdict to probe; end the stage by steps instead of "
                "by recognition"
            )
        prompt_ids = self._prompt_ids(problem.text)
        return Probe(prompt_ids + self._tokenizer.ids(text), len(prompt_ids), is_hit)

    def _ended(self, token_ids: Sequence[int]) -> tuple[Sequence[int], bool]:
        """The tokens before the first end token, and whether there is one."""
        for place, token in enumerate(token_ids):
            if token in self.end_token_ids:
                return token_ids[:place], True
        return token_ids, False

    def mark(self, prompt: Prompt, token_ids: Sequence[int]) -> Marks:
        """Attempts and claims; the reward where no grading worker is needed."""
        body, has_ended = self._ended(token_ids)
        response = self._tokenizer.text(body)
        attempts = self._form.attempts(prompt.problem, response)
        places = self._places(body, response, attempts)
        reward, failure = 0.0, Failure.UNFINISHED
        if has_ended:
            reading = self._form.read(prompt.problem, response)
            reward, failure = reading.reward or 0.0, reading.failure
        return Marks(
            reward=reward,
            num_attempts=len(attempts),
            num_unique_attempts=len({attempt.key for attempt in attempts}),
            num_claimed_hits=sum(attempt.is_claimed for attempt in attempts),
            num_false_hits=sum(a.is_claimed and not a.is_hit for a in attempts),
            num_missed_hits=sum(a.is_hit and a.is_called_miss for a in attempts),
            num_failed_checks=sum(a.is_called_miss for a in attempts),
            ends_at_failed_check=has_ended and bool(attempts) and attempts[-1].is_called_miss,
            solved_at=len(body) + 1 if reward > 0 else None,
            attempts_at=places,
            failure=failure,
        )

    def _places(
        self, body: Sequence[int], response: str, attempts: Sequence[TextAttempt]
    ) -> tuple[int, ...]:
        """Tokens after which each attempt is complete; attempts are in order."""
        ends = self._tokenizer.ends(body)
        places: list[int] = []
        read = num_bytes = 0
        for each in attempts:
            num_bytes += len(response[read : each.end].encode())
            read = each.end
            places.append(min(len(body), 1 + bisect_left(ends, num_bytes)))
        return tuple(places)

    def attempts(self, prompt: Prompt, token_ids: Sequence[int]) -> tuple[Attempt, ...]:
        """The attempts of a completion, with a verdict where the response states one."""
        body, _ = self._ended(token_ids)
        response = self._tokenizer.text(body)
        found = self._form.attempts(prompt.problem, response)
        return tuple(
            Attempt(place, each.is_hit, each.is_claimed if each.is_checked else None)
            for place, each in zip(self._places(body, response, found), found, strict=True)
        )

    @property
    def answer_cue(self) -> tuple[int, ...]:
        """The form's words that make the model answer at once."""
        return self._tokenizer.ids(self._form.answer_cue)

    async def judge(self, prompt: Prompt, token_ids: Sequence[int]) -> Marks:
        """The marks with the reward, from a grading worker where the form has one."""
        if self._pool is None:
            return self.mark(prompt, token_ids)
        # Of a long completion this takes milliseconds, in which nothing else would be answered.
        marks = await asyncio.to_thread(self.mark, prompt, token_ids)
        if marks.failure is not Failure.NONE:
            return marks
        body, _ = self._ended(token_ids)
        reading = self._form.read(prompt.problem, self._tokenizer.text(body))
        grade = await self._pool.grade(self._form.truth(prompt.problem), reading.answer)
        is_right = grade.score > 0
        return replace(
            marks,
            reward=grade.score,
            failure=grade.failure,
            solved_at=len(body) + 1 if is_right else None,
        )

    async def close(self) -> None:
        """End the grading workers."""
        if self._pool is not None:
            await self._pool.close()

    def text(self, token_ids: Sequence[int]) -> str:
        """The tokens as text."""
        return self._tokenizer.text(token_ids)


def _limits(grader: str, grading: GradingOptions) -> GradingLimits:
    return GradingLimits(
        grader, grading.num_workers, grading.time_limit_s, grading.memory_limit_bytes
    )
