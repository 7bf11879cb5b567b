"""Countdown and Multiplication in plain text: problems, traces, marks and hostile responses."""

import asyncio
import json
import re
import time
from pathlib import Path

import pytest

from e3mega.errors import E3Error
from e3mega.tasks.arithmetic import exact_value
from e3mega.tasks.catalog import build_task, provide_tokenizer
from e3mega.tasks.countdown.language import read_problem
from e3mega.tasks.countdown.text import CountdownTextOptions, Template
from e3mega.tasks.failure import Failure
from e3mega.tasks.interface import Marks, Prompt
from e3mega.tasks.multiplication.options import MultiplicationOptions
from e3mega.tasks.options import TaskOptions
from e3mega.tasks.text_problems import ProblemSet, TextProblem, write_problems
from e3mega.tasks.text_task import TextTask
from e3mega.tasks.text_tokenizer import TextTokenizer

COUNTDOWN = CountdownTextOptions(
    kind="countdown_text", num_numbers=(3, 5), num_training=60, num_held_out=20
)
MULTIPLICATION = MultiplicationOptions(
    kind="multiplication", num_digits=(2, 5), num_training=60, num_held_out=20
)


def make(options: TaskOptions, folder: Path, seed: int = 1) -> TextTask:
    provide_tokenizer(options, None, seed, folder)
    task = build_task(options, seed, folder)
    assert isinstance(task, TextTask)
    return task


def judge(task: TextTask, folder: Path, problem: str, response: str, end: bool = True) -> Marks:
    tokenizer = TextTokenizer(folder)
    ids = (*tokenizer.ids(response), *(tokenizer.end_token_ids if end else ()))
    return asyncio.run(task.judge(Prompt(problem, (), "all"), ids))


@pytest.mark.parametrize("options", [COUNTDOWN, MULTIPLICATION], ids=lambda o: o.kind)
def test_training_and_held_out_problems_differ_and_name_their_slices(
    options: TaskOptions, tmp_path: Path
) -> None:
    task = make(options, tmp_path)
    training = [task.training_prompt(i) for i in range(task.num_training)]
    held_out = task.held_out_prompts(40)
    assert task.num_training == 120
    assert len({p.problem for p in training}) == 120, "an epoch holds each problem once"

    def identity(problem: str) -> object:
        parts = re.split(r" : | \* ", problem)
        return (*sorted(parts[0].split()), parts[1]) if ":" in problem else frozenset(parts)

    assert not {identity(p.problem) for p in training} & {identity(p.problem) for p in held_out}
    names = [p.slice_name for p in held_out]
    assert names[0] != names[1] and sorted(set(names)) == sorted({p.slice_name for p in training})


def test_countdown_problems_follow_the_papers_generator(tmp_path: Path) -> None:
    task = make(COUNTDOWN, tmp_path)
    for index in range(task.num_training):
        prompt = task.training_prompt(index)
        numbers, target = read_problem(prompt.problem)
        assert len(numbers) == int(prompt.slice_name) and 0 <= target <= 999
        assert all(0 <= number <= 99 for number in numbers)
        text = task.text(prompt.token_ids)
        assert (
            f"Using the numbers {list(numbers)}, create an equation that equals {target}." in text
        )
        assert text.endswith("Assistant: Let me solve this step by step.")


@pytest.mark.parametrize("has_verification", [True, False])
def test_countdown_traces_are_exact(has_verification: bool, tmp_path: Path) -> None:
    options = COUNTDOWN.model_copy(update={"trace_has_verification": has_verification})
    task = make(options, tmp_path)
    for index in range(80):
        trace = task.trace(index)
        marks = asyncio.run(task.judge(trace.prompt, trace.token_ids))
        assert marks.reward == float(trace.has_hit)
        assert (marks.num_false_hits, marks.num_missed_hits) == (0, 0)
        assert marks.num_claimed_hits == int(trace.has_hit and has_verification)
        num_checked = marks.num_failed_checks + marks.num_claimed_hits
        assert num_checked == (marks.num_attempts if has_verification else 0)
        assert marks.ends_at_failed_check == (has_verification and not trace.has_hit)
        text = task.text(trace.token_ids)
        for left, right in re.findall(r"^([^:=\n]+) = (-?[0-9/]+)$", text, re.MULTILINE):
            plain = re.sub(r"-?[0-9]+/[0-9]+|(?<![0-9]) ?-[0-9]+", r"(\g<0>)", left)
            assert exact_value(plain) == exact_value(right.replace("-", "0-", 1)), (left, right)
    if has_verification:
        assert 0.3 < sum(task.trace(i).has_hit for i in range(80)) / 80 < 0.7


@pytest.mark.parametrize("has_verification", [True, False])
def test_multiplication_traces_are_exact(has_verification: bool, tmp_path: Path) -> None:
    options = MULTIPLICATION.model_copy(update={"trace_has_verification": has_verification})
    task = make(options, tmp_path)
    num_attempts = []
    for index in range(80):
        trace = task.trace(index)
        marks = asyncio.run(task.judge(trace.prompt, trace.token_ids))
        assert marks.reward == 1.0 and marks.solved_at == len(trace.token_ids)
        assert (marks.num_false_hits, marks.num_missed_hits) == (0, 0)
        assert marks.num_claimed_hits == int(has_verification)
        assert ("Check:" in task.text(trace.token_ids)) == has_verification
        num_attempts.append(marks.num_attempts)
    assert (max(num_attempts) > 1) == has_verification


@pytest.mark.parametrize("options", [COUNTDOWN, MULTIPLICATION], ids=lambda o: o.kind)
def test_probes_call_a_right_attempt_and_a_wrong_one_right(
    options: TaskOptions, tmp_path: Path
) -> None:
    task = make(options, tmp_path)
    held_out = {p.token_ids: p for p in task.held_out_prompts(40)}
    for probe in task.probes(20):
        prompt = held_out[probe.token_ids[: probe.num_prompt_tokens]]
        marks = task.mark(prompt, probe.token_ids[probe.num_prompt_tokens :])
        assert (marks.num_claimed_hits, marks.num_false_hits) == (1, int(not probe.is_hit))
        assert task.text(probe.token_ids[-1:]) == "ok"


COUNTDOWN_CASES = [
    ("<think>x</think>\n<answer> (3 + 5) * 7 </answer>", 1.0, Failure.NONE),
    ("<answer> 1 </answer> <answer> (3 + 5) * 7 </answer>", 1.0, Failure.NONE),
    ("<answer> (3 + 5) * 7 </answer>\n", 1.0, Failure.NONE),
    ("<answer> (3 + 5) * 7 </answer>\nso it is", 0.0, Failure.NO_ANSWER),
    ("<answer> (3 + 5) * 7 = 56 </answer>", 0.0, Failure.NONE),
    ("<answer> 7 * 8 </answer>", 0.0, Failure.NONE),
    ("<answer> (3 + 5) * 7 * 1 </answer>", 0.0, Failure.NONE),
    ("<answer> __import__('os') </answer>", 0.0, Failure.NONE),
    ("the answer is (3 + 5) * 7", 0.0, Failure.NO_ANSWER),
]


@pytest.mark.parametrize(("response", "reward", "failure"), COUNTDOWN_CASES)
def test_countdown_is_graded_by_the_papers_rules(
    response: str, reward: float, failure: Failure, tmp_path: Path
) -> None:
    marks = judge(make(COUNTDOWN, tmp_path), tmp_path, "3 5 7 : 56", response)
    assert (marks.reward, marks.failure) == (reward, failure)


MULTIPLICATION_CASES = [
    ("47 * 86 = 4042\n\n\\boxed{4042}", 1.0, Failure.NONE),
    ("\\boxed{4,042}", 1.0, Failure.NONE),
    ("\\boxed{4043} no, \\boxed{4042}", 1.0, Failure.NONE),
    ("\\boxed{4042} no, \\boxed{4043}", 0.0, Failure.NONE),
    ("\\boxed{47 * 86}", 0.0, Failure.UNREADABLE),
    ("4042", 0.0, Failure.NO_ANSWER),
    ("\\boxed{4042", 0.0, Failure.NO_ANSWER),
]


@pytest.mark.parametrize(("response", "reward", "failure"), MULTIPLICATION_CASES)
def test_multiplication_asks_for_exactly_the_product(
    response: str, reward: float, failure: Failure, tmp_path: Path
) -> None:
    marks = judge(make(MULTIPLICATION, tmp_path), tmp_path, "47 * 86", response)
    assert (marks.reward, marks.failure) == (reward, failure)


def test_what_does_not_end_earns_nothing_and_attempts_count_where_they_end(
    tmp_path: Path,
) -> None:
    task = make(COUNTDOWN, tmp_path)
    response = "3 + 5 = 8\n\n8 * 7 = 56\n\nthat is it</think>\n<answer> (3 + 5) * 7 </answer>"
    marks = judge(task, tmp_path, "3 5 7 : 56", response, end=False)
    assert (marks.reward, marks.failure) == (0.0, Failure.UNFINISHED)
    ids = TextTokenizer(tmp_path).ids(response)
    assert [task.text(ids[:end]) for end in marks.attempts_at] == [
        "3 + 5 = 8",
        "3 + 5 = 8\n\n8 * 7 = 56",
    ]


HUGE = {
    "digits": "1" * 1_000_000,
    "equations": "1 + 1 = 2 " * 100_000,
    "operators": "+-*/" * 250_000 + "=1",
    "brackets": "(" * 1_000_000,
    "open answers": "<answer>" * 125_000,
    "answers": "<answer> 1 </answer>" * 50_000,
    "boxes": "\\boxed{" * 140_000,
    "segments": "1 = 1\n\n" * 10_000,
    "checks": "Check: ok " * 100_000,
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("options", [COUNTDOWN, MULTIPLICATION], ids=lambda o: o.kind)
def test_a_megabyte_is_marked_in_linear_time(
    name: str, options: TaskOptions, tmp_path: Path
) -> None:
    task = make(options, tmp_path)
    problem = "3 5 7 : 56" if options is COUNTDOWN else "47 * 86"
    start = time.monotonic()
    form = task._form
    form.attempts(problem, HUGE[name])
    assert not form.read(problem, HUGE[name]).reward
    assert time.monotonic() - start < 5


def test_marks_take_linear_time(tmp_path: Path) -> None:
    """Four times as many attempts, four times the time; where it was quadratic, ten."""
    task = make(COUNTDOWN, tmp_path)

    def seconds(count: int) -> float:
        ids = (*TextTokenizer(tmp_path).ids("1 = 1 漢漢漢漢漢漢\n\n" * count), *task.end_token_ids)
        start = time.process_time()
        marks = task.mark(Prompt("3 5 7 : 56", (), "all"), ids)
        assert marks.num_attempts == count and marks.attempts_at[-1] == len(ids) - 2
        return time.process_time() - start

    few = min(seconds(8_000) for _ in range(2))
    assert seconds(32_000) < 7 * few


def test_graded_problems_of_a_file_take_the_place_of_drawn_ones(tmp_path: Path) -> None:
    file = tmp_path / "hard.parquet"
    problems = ProblemSet(
        (TextProblem("3 5 7 : 56", "3", 0.25), TextProblem("1 2 3 : 6", "3", 0.0)),
        (TextProblem("2 2 2 : 6", "3", 0.5),),
    )
    write_problems(file, problems)
    task = make(COUNTDOWN.model_copy(update={"problems": str(file)}), tmp_path)
    seen = {(p.problem, p.pass_rate) for p in map(task.training_prompt, range(2))}
    assert seen == {("3 5 7 : 56", 0.25), ("1 2 3 : 6", 0.0)}
    assert [p.problem for p in task.held_out_prompts(1)] == ["2 2 2 : 6"]
    with pytest.raises(E3Error, match=r"none\.parquet"):
        make(COUNTDOWN.model_copy(update={"problems": "none.parquet"}), tmp_path).training_prompt(0)


@pytest.mark.parametrize("options", [COUNTDOWN, MULTIPLICATION], ids=lambda o: o.kind)
def test_a_file_of_training_problems_leaves_the_held_out_ones(
    options: TaskOptions, tmp_path: Path
) -> None:
    """As ``e3mega grade`` writes it by default; none that the file trains on is held out."""
    own = make(options, tmp_path)
    training = [own.training_prompt(i).problem for i in range(own.num_training)]
    file = tmp_path / "problems.parquet"
    write_problems(file, ProblemSet(tuple(TextProblem(each, "easy") for each in training), ()))
    graded = options.model_copy(update={"problems": str(file)})
    task = make(graded, tmp_path)
    assert task.num_training == own.num_training
    assert task.held_out_prompts(40) == own.held_out_prompts(40)
    trained = [prompt.problem for prompt in own.held_out_prompts(3)]
    write_problems(file, ProblemSet(tuple(TextProblem(each, "easy") for each in trained), ()))
    held_out = make(graded, tmp_path).held_out_prompts(own.num_held_out - 3)
    assert held_out == own.held_out_prompts(own.num_held_out)[3:]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_right_completions_of_a_file_are_traces(suffix: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"problem": "47 * 86", "text": "\\boxed{4042}<end>", "reward": 1.0, "split": "train"},
        {"problem": "47 * 87", "text": "\\boxed{1}", "reward": 0.0},
        {"problem": "47 * 88", "text": "\\boxed{4136}", "reward": 1.0, "split": "held_out"},
    ]
    path = tmp_path / f"teacher{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    task = make(MULTIPLICATION.model_copy(update={"traces": str(path)}), tmp_path)
    traces = [task.trace(index) for index in range(3)]
    assert {t.prompt.problem for t in traces} == {"47 * 86"}
    assert asyncio.run(task.judge(traces[0].prompt, traces[0].token_ids)).reward == 1.0


def test_traces_and_prompts_that_are_too_long_are_left_out(tmp_path: Path) -> None:
    short = COUNTDOWN.model_copy(update={"max_trace_tokens": 120, "template": Template.SHORT})
    task = make(short, tmp_path)
    assert max(len(task.trace(index).token_ids) for index in range(30)) <= 120
    with pytest.raises(E3Error, match="max_prompt_tokens"):
        make(short.model_copy(update={"max_prompt_tokens": 5}), tmp_path).training_prompt(0)
    with pytest.raises(E3Error, match="max_trace_tokens"):
        make(short.model_copy(update={"max_trace_tokens": 5}), tmp_path).trace(0)


def test_verdicts_of_traces_can_weigh_more(tmp_path: Path) -> None:
    task = make(COUNTDOWN.model_copy(update={"trace_verdict_weight": 6.0}), tmp_path)
    trace = task.trace(0)
    heavy = [t for t, w in zip(trace.token_ids, trace.weights, strict=True) if w == 6.0]
    assert {task.text([token]) for token in heavy} <= {"ok", "no"}
    assert len(heavy) == task.mark(trace.prompt, trace.token_ids).num_attempts
