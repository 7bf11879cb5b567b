"""Mathematics from local files of every form and layout, read by the real datasets library."""

import asyncio
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from e3mega.errors import E3Error
from e3mega.tasks.catalog import build_task
from e3mega.tasks.failure import Failure
from e3mega.tasks.math.layouts import LayoutName
from e3mega.tasks.math.load import load
from e3mega.tasks.math.options import MathOptions
from e3mega.tasks.math.source import load_problems
from e3mega.tasks.text_tokenizer import TextTokenizer
from tests.text_tokenizers import write_byte_level

ROWS = [{"problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(20)]


def options(**changes: Any) -> MathOptions:
    return MathOptions(kind="math", **changes)


def write(form: str, folder: Path) -> str:
    data = datasets.Dataset.from_list(ROWS)
    path = folder / f"data.{form}"
    if form == "jsonl":
        data.to_json(path)
    elif form == "parquet":
        data.to_parquet(path)
    else:
        data.save_to_disk(folder / "saved")
        files = sorted((folder / "saved").glob("*.arrow"))
        path = files[0] if form == "arrow" else folder / "saved"
    return str(path)


@pytest.mark.parametrize("form", ["jsonl", "parquet", "arrow", "saved"])
def test_every_form_of_a_data_set_gives_the_same_problems(form: str, tmp_path: Path) -> None:
    found = load(options(source=write(form, tmp_path), num_held_out=5), 3)
    assert (len(found.training), len(found.held_out)) == (15, 5)
    texts = [json.loads(each.text) for each in (*found.training, *found.held_out)]
    assert sorted(each["problem"] for each in texts) == sorted(row["problem"] for row in ROWS)
    assert texts[0]["answers"] == [str(2 * int(texts[0]["problem"].split()[2]))]


LAYOUT_ROWS: list[tuple[LayoutName, dict[str, Any]]] = [
    (LayoutName.AIME_2025, {"question": "Find $n$.", "answer": "70"}),
    (LayoutName.AIME_2025, {"problem": "Find $n$.", "answer": "70", "id": "1"}),
    (LayoutName.HMMT_2025, {"question": "Find $n$.", "answer": "70"}),
    (LayoutName.HMMT_2025, {"problem_idx": 1, "problem": "Find $n$.", "answer": "70"}),
    (LayoutName.DEEPSCALER, {"problem": "Find $n$.", "answer": "70", "solution": "..."}),
    (
        LayoutName.VERL,
        {
            "prompt": [{"role": "user", "content": "Find $n$."}],
            "reward_model": {"style": "rule", "ground_truth": ["70"]},
        },
    ),
]
"""Columns as public programs read them: opencompass/AIME2025, math-ai/aime25, FlagEval/HMMT_2025,
MathArena/hmmt_feb_2025, agentica-org/DeepScaleR-Preview-Dataset, CMU-AIRe/e3-math-easy."""


@pytest.mark.parametrize(("layout", "row"), LAYOUT_ROWS)
def test_known_layouts_are_read(layout: LayoutName, row: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    datasets.Dataset.from_list([row]).to_parquet(path)
    found = load(options(source=str(path), layout=layout), 1)
    is_test_set = layout in (LayoutName.AIME_2025, LayoutName.HMMT_2025)
    assert len(found.held_out) == int(is_test_set) and len(found.training) == 1 - is_test_set
    problem = (found.held_out or found.training)[0]
    assert json.loads(problem.text) == {"problem": "Find $n$.", "answers": ["70"]}


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    path = write("jsonl", tmp_path)
    with pytest.raises(E3Error, match="SHA-256"):
        load(options(source=path, sha256="0" * 64), 1)
    with pytest.raises(ValueError, match=r"task\.source is missing"):
        load(options(), 1)
    with pytest.raises(ValueError, match="num_held_out"):
        load(options(source=path, num_held_out=20), 1)
    # Through the process that does it in a run.
    with pytest.raises(E3Error, match="column prompt is missing; there are problem, answer;"):
        load_problems(options(source=path, layout=LayoutName.VERL), 1)


def test_rows_without_a_problem_or_an_answer_are_left_out(tmp_path: Path) -> None:
    """An answer that is missing must not read None, nor an empty one equal an empty box."""
    bad = [
        {"problem": "a?", "answer": None},
        {"problem": None, "answer": "1"},
        {"problem": " ", "answer": "1"},
        {"problem": "b?"},
        {"problem": "c?", "answer": ""},
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS[:3], *bad]))
    assert len(load(options(source=str(path)), 1).training) == 3
    path.write_text("".join(json.dumps(row) + "\n" for row in bad))
    with pytest.raises(ValueError, match="none of its 5 rows has both a problem and an answer"):
        load(options(source=str(path)), 1)
    lists = tmp_path / "lists.jsonl"
    rows = [{"problem": "a?", "answer": []}, {"problem": "b?", "answer": [" ", "1"]}]
    lists.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (only,) = load(options(source=str(lists)), 1).training
    assert json.loads(only.text)["answers"] == ["1"]


def test_answers_of_a_table_are_text(tmp_path: Path) -> None:
    """Read as numbers they would lose digits beside an empty cell, and NaN would be none."""
    path = tmp_path / "data.csv"
    path.write_text('problem,answer\na,123456789012345678\nb,\nc,0070\nd,NaN\n"e, f",1/2\n')
    found = [json.loads(each.text) for each in load(options(source=str(path)), 1).training]
    assert [each["answers"][0] for each in found] == ["123456789012345678", "0070", "NaN", "1/2"]


def test_no_held_out_problem_is_trained_on(tmp_path: Path) -> None:
    """However often the data holds it."""
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS * 3))
    found = load(options(source=str(path), num_held_out=5), 3)
    held_out = {each.text for each in found.held_out}
    assert len(found.held_out) == len(held_out) == 5
    assert not held_out & {each.text for each in found.training}
    assert len(found.training) == 3 * 15
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:4]))
    both = load(options(source=str(folder), held_out_split="test"), 3)
    assert (len(both.training), len(both.held_out)) == (16, 4)


WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    ("a.jsonl", '{"problem": "a", "answer": "1"}\n{"problem": ', {}, "a.jsonl.*JSON"),
    ("a.tsv", "problem\tanswer\n", {}, r"need one of \.arrow \.csv"),
    ("a.jsonl", "", {"source": "data/none.jsonl"}, "there is no file data/none.jsonl"),
    (
        "a.jsonl",
        '{"prompt": [{"role": "system", "content": "s"}], "reward_model": {"ground_truth": "1"}}',
        {"layout": LayoutName.VERL},
        "column prompt has no turn of the user",
    ),
    (
        "a.jsonl",
        '{"prompt": [{"role": "user", "content": "s"}], "reward_model": {"truth": "1"}}',
        {"layout": LayoutName.VERL},
        "column reward_model has no ground_truth",
    ),
]


@pytest.mark.parametrize(("name", "text", "changes", "words"), WRONG)
def test_a_source_that_is_none_is_named(
    name: str, text: str, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(E3Error, match=words):
        load_problems(options(**{"source": str(path), **changes}), 1)


def test_a_prompt_shows_the_problem() -> None:
    with pytest.raises(ValidationError, match="problem"):
        options(prompt="Think step by step.")


def test_responses_are_graded_from_the_data_to_the_marks(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path / "model")
    task = build_task(options(source=write("jsonl", tmp_path), num_held_out=5), 3, folder)
    tokenizer = TextTokenizer(folder)
    prompt = task.held_out_prompts(1)[0]
    answer = json.loads(prompt.problem)["answers"][0]
    text = task.text(prompt.token_ids)
    assert text.startswith("<|im_start|>user\nWhat is ")
    assert text.endswith("within \\boxed{}.<|im_end|>\n<|im_start|>assistant\n")
    cases = [
        (f"so\nWait, again\nso</think> \\boxed{{{answer}}}", 1.0, Failure.NONE),
        (f"</think> \\boxed{{\\frac{{{2 * int(answer)}}}{{2}}}}", 1.0, Failure.NONE),
        ("</think> \\boxed{77}", 0.0, Failure.NONE),
        (f"\\boxed{{{answer}}}", 0.0, Failure.UNFINISHED),
        (f"</think> {answer}", 0.0, Failure.NO_ANSWER),
        ("</think> \\boxed{9**9**9**9}", 0.0, Failure.UNREADABLE),
    ]

    async def check() -> None:
        for response, reward, failure in cases:
            ids = (*tokenizer.ids(response), *task.end_token_ids)
            marks = await task.judge(prompt, ids)
            assert (marks.reward, marks.failure) == (reward, failure), response
            assert marks.solved_at == (len(ids) if reward else None)
            assert marks.num_attempts == response.count("Wait")
        await task.close()

    asyncio.run(check())


def test_chat_templates_render_as_transformers_does(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(folder)
    for text in ("2 + 2?", "漢字 <think>\n\n{{ x }}", ""):
        wanted = loaded.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        own = TextTokenizer(folder)
        assert own.user_turn(text) == wanted
        assert list(own.ids(wanted)) == loaded(wanted, add_special_tokens=False)["input_ids"]
