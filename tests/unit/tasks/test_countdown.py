"""Countdown's problems, split, streams, traces and probes."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from e3mega.errors import E3Error
from e3mega.tasks.countdown.options import CountdownOptions, Half
from e3mega.tasks.countdown.problems import all_problems
from e3mega.tasks.countdown.split import split_problems
from e3mega.tasks.countdown.task import CountdownTask
from e3mega.tasks.interface import Prompt, Task
from e3mega.tasks.sizes import (
    max_prompt_tokens,
    max_trace_tokens,
    mean_trace_tokens,
    num_held_out_problems,
    vocabulary_size,
)

OPTIONS = CountdownOptions(kind="countdown")


def identity(prompt: Prompt) -> tuple[tuple[str, ...], str]:
    """A problem whatever the order of its numbers."""
    numbers, target = prompt.problem.split(" : ")
    return tuple(sorted(numbers.split())), target


def with_half(half: Half) -> CountdownOptions:
    return OPTIONS.model_copy(update={"half": half})


def test_shares_of_a_problem_agree_with_a_plain_count() -> None:
    """Counted anew with eval over strings for the numbers 2 3 7."""
    values: dict[str, int] = {}
    for a, b, c in permutations("237"):
        for first in "+-*":
            for second in "+-*":
                left = eval(f"{a}{first}{b}")
                value = eval(f"({a}{first}{b}){second}{c}")
                if 0 <= left <= 99 and 0 <= value <= 99:
                    values[f"{a}{first}{b}{second}{c}"] = value
    problems = {
        problem.target: problem
        for half in all_problems(OPTIONS).values()
        for problem in half
        if problem.numbers == (2, 3, 7)
    }
    assert set(problems) == set(values.values())
    for target, problem in problems.items():
        hits = sum(value == target for value in values.values())
        assert (len(problem.hits), len(problem.misses)) == (hits, len(values) - hits)


def test_easy_problems_have_the_larger_shares() -> None:
    halves = all_problems(OPTIONS)
    hard = [problem.hit_share for problem in halves[Half.HARD]]
    easy = [problem.hit_share for problem in halves[Half.EASY]]
    assert max(hard) <= min(easy)
    assert abs(len(hard) - len(easy)) <= 1
    assert np.mean(easy) > 2 * np.mean(hard)


def test_held_out_problems_are_never_trained_on_in_any_order() -> None:
    task = CountdownTask(OPTIONS, 7)
    held_out = task.held_out_prompts(num_held_out_problems(OPTIONS))
    kept = {identity(prompt) for prompt in held_out}
    assert len(kept) == len(held_out) >= 512
    streams = [CountdownTask(with_half(half), 7) for half in Half]
    for stream in streams:
        assert not kept & {identity(stream.training_prompt(i)) for i in range(1500)}
        assert not kept & {identity(stream.trace(i).prompt) for i in range(1500)}
        assert stream.held_out_prompts(512) == held_out[:512]
    names = [prompt.slice_name for prompt in held_out[:512]]
    assert names.count("easy") == names.count("hard") == 256


def test_asking_for_more_held_out_prompts_than_there_are_says_so() -> None:
    with pytest.raises(E3Error, match="held_out_frac"):
        CountdownTask(OPTIONS, 7).held_out_prompts(10_000)


def test_the_split_moves_with_the_seed_only() -> None:
    first, other = split_problems(OPTIONS, 1), split_problems(OPTIONS, 2)
    assert first.held_out != other.held_out
    changed = OPTIONS.model_copy(update={"half": Half.HARD, "trace_hit_frac": 0.9})
    assert split_problems(changed, 1) == first


def test_an_epoch_holds_each_problem_of_its_slice_once() -> None:
    task = CountdownTask(with_half(Half.HARD), 3)
    size = len(split_problems(OPTIONS, 3).training[Half.HARD])
    for start in (0, size):
        prompts = [task.training_prompt(start + i) for i in range(size)]
        assert len({identity(prompt) for prompt in prompts}) == size
        assert {prompt.slice_name for prompt in prompts} == {"hard"}


def test_streams_give_the_same_at_any_index_in_any_order() -> None:
    indices = [5000, 3, 1200, 0, 1025, 3]
    one, two = CountdownTask(OPTIONS, 3), CountdownTask(OPTIONS, 3)
    forward = {i: (one.trace(i), one.training_prompt(i)) for i in sorted(indices)}
    assert [(two.trace(i), two.training_prompt(i)) for i in indices] == [
        forward[i] for i in indices
    ]
    assert CountdownTask(OPTIONS, 4).trace(0) != one.trace(0)


def words_of(task: Task, ids: tuple[int, ...]) -> list[str]:
    return task.text(ids).split()


def test_traces_are_exact_and_half_of_them_hit() -> None:
    task = CountdownTask(OPTIONS, 5)
    counts = np.zeros(OPTIONS.max_trace_attempts + 1, int)
    for index in range(1000):
        trace = task.trace(index)
        marks = task.mark(trace.prompt, trace.token_ids)
        words = words_of(task, trace.token_ids)
        assert marks.reward == float(trace.has_hit) == marks.num_claimed_hits
        assert marks.num_false_hits == marks.num_missed_hits == 0
        assert words[-1] == "<end>" and (words[-2] == "none") is not trace.has_hit
        assert len(trace.prompt.token_ids) == max_prompt_tokens(OPTIONS)
        assert len(trace.prompt.token_ids + trace.token_ids) <= max_trace_tokens(OPTIONS)
        counts[marks.num_attempts] += 1
        numbers = sorted(trace.prompt.problem.split(" : ")[0].split())
        for end in marks.attempts_at:
            a, _, b, equals, _, _, c, _, _, verdict = words[end - 10 : end]
            assert sorted((a, b, c)) == numbers and equals == "="
            assert verdict in ("ok", "no")
    # A geometric distribution, cut at the largest number.
    stop = OPTIONS.trace_stop_frac
    shares = stop * (1 - stop) ** np.arange(OPTIONS.max_trace_attempts)
    assert counts[0] == 0
    shares[-1] /= stop
    assert np.all(abs(counts[1:] - 1000 * shares) < 4 * np.sqrt(1000 * shares))
    hits = sum(task.trace(index).has_hit for index in range(4000))
    assert abs(hits - 2000) < 4 * np.sqrt(4000 / 4)


def test_results_and_verdicts_weigh_what_the_options_say() -> None:
    task = CountdownTask(OPTIONS.model_copy(update={"trace_exact_weight": 6.0}), 5)
    for index in range(20):
        trace = task.trace(index)
        verdicts = task.mark(trace.prompt, trace.token_ids).attempts_at
        # 3 + 5 = 8 - 7 = 1 ok: the fifth and the ninth word are results.
        exact = {end - back for end in verdicts for back in (0, 1, 5)}
        expected = [6.0 if place in exact else 1.0 for place in range(1, len(trace.weights) + 1)]
        assert list(trace.weights) == expected
        assert len(trace.weights) == len(trace.token_ids)


def test_attempts_explore_every_valid_one() -> None:
    """With no hits asked for, the misses written for one problem cover all of its misses."""
    options = OPTIONS.model_copy(update={"trace_hit_frac": 0.0, "max_number": 3})
    task = CountdownTask(options, 1)
    seen: dict[object, set[str]] = {}
    for index in range(6000):
        trace = task.trace(index)
        words = words_of(task, trace.token_ids)
        for end in task.mark(trace.prompt, trace.token_ids).attempts_at:
            seen.setdefault(identity(trace.prompt), set()).add(" ".join(words[end - 10 : end]))
    problems = split_problems(options, 1).training
    for problem in (*problems[Half.EASY], *problems[Half.HARD]):
        key = (tuple(map(str, problem.numbers)), str(problem.target))
        assert len(seen[key]) == len(problem.misses)


def test_probes_ask_for_the_verdict_of_held_out_attempts() -> None:
    task = CountdownTask(OPTIONS, 5)
    held_out = {p.token_ids: p for p in task.held_out_prompts(num_held_out_problems(OPTIONS))}
    probes = task.probes(512)
    assert sum(probe.is_hit for probe in probes) == 256
    assert len({probe.token_ids for probe in probes}) > 500
    for probe in probes:
        prompt = held_out[probe.token_ids[: probe.num_prompt_tokens]]
        marks = task.mark(prompt, probe.token_ids[probe.num_prompt_tokens :])
        assert task.text(probe.token_ids[-1:]) == "ok"
        assert marks.attempts_at[-1] == len(probe.token_ids) - probe.num_prompt_tokens
        assert (marks.num_claimed_hits, marks.num_false_hits) == (1, int(not probe.is_hit))
        assert marks.num_missed_hits == 0


def test_other_sizes_of_problems_work() -> None:
    for count in (2, 4):
        options = OPTIONS.model_copy(
            update={"num_numbers": count, "max_number": 4, "operators": "+-*/"}
        )
        task = CountdownTask(options, 1)
        assert vocabulary_size(options) <= 128
        for index in range(50):
            trace = task.trace(index)
            assert len(trace.prompt.token_ids) == max_prompt_tokens(options)
            assert len(trace.prompt.token_ids + trace.token_ids) <= max_trace_tokens(options)
            assert task.mark(trace.prompt, trace.token_ids).reward == float(trace.has_hit)


def test_traces_without_verification_state_a_hit_at_once() -> None:
    """The same problems in the same order; the answer earns the reward, and nothing is checked."""
    plain = CountdownTask(OPTIONS.model_copy(update={"trace_has_verification": False}), 5)
    checked = CountdownTask(OPTIONS, 5)
    for index in range(200):
        trace = plain.trace(index)
        assert trace.prompt == checked.trace(index).prompt and trace.has_hit
        words = plain.text(trace.token_ids).split()
        assert not {"ok", "no", "none"} & set(words)
        assert words.index("<answer>") == 4 * OPTIONS.num_numbers - 3
        marks = plain.mark(trace.prompt, trace.token_ids)
        assert (marks.reward, marks.num_attempts) == (1.0, 0)
        assert len(trace.prompt.token_ids + trace.token_ids) <= max_trace_tokens(OPTIONS)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_trace_attempts": 24},
        {"num_numbers": 2, "max_trace_attempts": 3, "trace_stop_frac": 0.2},
        {"num_numbers": 4, "max_number": 4, "trace_hit_frac": 0.9, "trace_stop_frac": 1.0},
        {"trace_has_verification": False},
    ],
)
def test_the_mean_length_of_traces_follows_from_the_options(changes: dict[str, Any]) -> None:
    """Within three standard errors of 4000 traces; the planner counts a warm-up's tokens by it."""
    options = CountdownOptions(kind="countdown", **changes)
    task = CountdownTask(options, 1)
    lengths = np.array([len(task.trace(index).token_ids) for index in range(4000)])
    mean = mean_trace_tokens(options)
    assert mean is not None
    assert abs(lengths.mean() - mean) <= 3 * lengths.std() / np.sqrt(4000)


def test_a_split_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(E3Error, match=r"held_out_frac = 1\.0 leaves no problem"):
        CountdownTask(CountdownOptions(kind="countdown", held_out_frac=1.0), 1)
