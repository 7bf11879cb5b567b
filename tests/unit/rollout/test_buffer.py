"""Groups on disk: what is kept through kills, and what is not used again."""

from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest

from e3mega.errors import RecordError
from e3mega.plan.paths import RunPaths
from e3mega.rollout.buffer import GroupStore
from e3mega.rollout.records import (
    Completion,
    FinishReason,
    Group,
    GroupRequest,
    Purpose,
    Rollout,
    VersionSpan,
)
from e3mega.rollout.rows import read_groups
from e3mega.tasks.failure import Failure
from e3mega.tasks.interface import Marks, Prompt


def make_request(index: int) -> GroupRequest:
    prompt = Prompt("3 5 7 : 22", (13, 23, 25, 27), "easy")
    return GroupRequest(index, prompt, 2, 64, 0.7, 1.0, 0, 2**62 + 2 * index, 4)


def make_group(index: int) -> Group:
    rng = np.random.default_rng(index)
    rollouts = []
    for sample in range(2):
        length = int(rng.integers(1, 30))
        logprobs = tuple(float(x) for x in -rng.random(length))
        completion = Completion(
            tuple(int(t) for t in rng.integers(0, 118, length)),
            logprobs,
            FinishReason.STOP if sample else FinishReason.LENGTH,
            (VersionSpan(4, 0, length),),
        )
        solved_at = 20 if sample else None
        counts = (2, 1, 1, 0, 1, 1)
        marks = Marks(float(sample), *counts, bool(sample), solved_at, (10, 20), Failure.NONE)
        rollouts.append(Rollout(completion, marks))
    return Group(make_request(index), tuple(rollouts))


def make_store(run_dir: Path) -> GroupStore:
    return GroupStore(
        RunPaths(run_dir),
        purpose=Purpose.TRAIN,
        stage="easy",
        round=7,
        text=lambda ids: " ".join(f"t{i}" for i in ids),
    )


REQUESTS = [make_request(index) for index in range(4)]
GROUPS = [make_group(index) for index in range(4)]


def journal_of(run_dir: Path) -> Path:
    return run_dir / "rollouts" / "train" / "easy" / "round_000007.jsonl"


def test_finished_groups_come_back_equal_before_and_after_closing(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    assert store.begin(REQUESTS).num_redrawn == 0
    for index in (2, 0, 3, 1):
        store.append(GROUPS[index])
    expected = dict(enumerate(GROUPS))
    assert make_store(tmp_path).finished(REQUESTS) == expected
    path = store.close([GROUPS[i] for i in (2, 0, 3, 1)])
    assert path == tmp_path / "rollouts" / "train" / "easy" / "round_000007.parquet"
    assert [child.name for child in path.parent.iterdir()] == [path.name]
    state = make_store(tmp_path).begin(REQUESTS)
    assert (state.finished, state.num_redrawn) == (expected, 0)
    assert read_groups(path) == tuple(GROUPS)


def test_closing_twice_changes_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.begin(REQUESTS)
    first = store.close(GROUPS).read_bytes()
    assert store.close(GROUPS[:1]).read_bytes() == first


def test_a_kill_at_any_byte_costs_at_most_the_group_being_written(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.begin(REQUESTS)
    store.append(GROUPS[0])
    whole = journal_of(tmp_path).read_bytes()
    store.append(GROUPS[1])
    rest = journal_of(tmp_path).read_bytes()[len(whole) :]
    # The last byte ends the line: without it the group is whole, and counts.
    for cut in (*range(0, len(rest) - 1, 7), len(rest) - 2):
        journal_of(tmp_path).write_bytes(whole + rest[:cut])
        again = make_store(tmp_path)
        state = again.begin(REQUESTS)
        assert state.finished == {0: GROUPS[0]}
        assert state.num_redrawn == 3
        again.append(GROUPS[1])
        assert again.finished(REQUESTS) == {0: GROUPS[0], 1: GROUPS[1]}


def test_a_group_without_the_end_of_its_line_is_whole_and_the_next_starts_a_line(
    tmp_path: Path,
) -> None:
    store = make_store(tmp_path)
    store.begin(REQUESTS)
    store.append(GROUPS[0])
    journal_of(tmp_path).write_bytes(journal_of(tmp_path).read_bytes()[:-1])
    again = make_store(tmp_path)
    assert again.begin(REQUESTS).finished == {0: GROUPS[0]}
    again.append(GROUPS[1])
    assert again.finished(REQUESTS) == {0: GROUPS[0], 1: GROUPS[1]}


def test_a_kill_before_the_first_group_counts_every_request_as_redrawn(tmp_path: Path) -> None:
    make_store(tmp_path).begin(REQUESTS)
    state = make_store(tmp_path).begin(REQUESTS)
    assert (state.finished, state.num_redrawn) == ({}, 4)


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {"version": 5},
        {"seed": 1},
        {"max_tokens": 128},
        {"num_samples": 3},
        {"temperature": 0.8},
        {"top_p": 0.9},
        {"top_k": 5},
    ],
)
def test_groups_of_other_requests_are_not_used(
    tmp_path: Path, change: dict[str, int | float], is_closed: bool
) -> None:
    store = make_store(tmp_path)
    store.begin(REQUESTS)
    for group in GROUPS:
        store.append(group)
    if is_closed:
        store.close(GROUPS)
    changed = [replace(REQUESTS[0], **change), *REQUESTS[1:]]  # pyright: ignore
    assert sorted(make_store(tmp_path).finished(changed)) == [1, 2, 3]


def test_groups_that_lack_samples_are_not_used(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.append(replace(GROUPS[0], rollouts=GROUPS[0].rollouts[:1]))
    assert store.finished(REQUESTS) == {}


def test_datasets_reads_a_row_per_rollout(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    path = store.close(GROUPS)
    rows = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 8
    row = rows[3]
    rollout = GROUPS[1].rollouts[1]
    assert (row["purpose"], row["stage"], row["round"]) == ("train", "easy", 7)
    assert (row["index"], row["sample"], row["slice"]) == (1, 1, "easy")
    assert row["logprobs"] == list(rollout.completion.logprobs)
    assert row["text"] == " ".join(f"t{i}" for i in rollout.completion.token_ids)
    assert row["prompt_text"] == "t13 t23 t25 t27"
    assert (row["solved_at"], rows[2]["solved_at"]) == (20, None)


def test_a_damaged_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    path = make_store(tmp_path).close(GROUPS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RecordError, match="round_000007"):
        make_store(tmp_path).finished(REQUESTS)
