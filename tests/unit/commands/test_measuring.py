"""What the commands that measure a model are asked wrongly, and what they say to it."""

import json
from pathlib import Path

import pytest

from e3mega.cli import main
from e3mega.tasks.text_problems import ProblemSet, TextProblem, write_problems
from tests.text_tokenizers import write_byte_level

EVAL = ("eval", "model", "--task", "countdown-3", "--budgets", "64")
GRADE = ("grade", "model", "--task", "countdown-3", "--out", "graded")
ASYMMETRY = ("asymmetry", "model", "--task", "countdown-3")
WRONG = [
    ((*EVAL[:-1], "6x4"), "--budgets: '6x4' is no number of tokens; write 8192 or 8k"),
    ((*EVAL, "--samples", "0"), "--samples: '0' is no whole number above 0"),
    ((*EVAL, "--problems", "-3"), "--problems: '-3' is no whole number above 0"),
    ((*EVAL, "--pass-k", "1,a"), "--pass-k: 'a' is no whole number"),
    ((*EVAL, "--temperature", "nan"), "--temperature: 'nan' is no number above 0"),
    ((*EVAL, "--waits", "-1"), "--waits: '-1' is no whole number"),
    ((*EVAL, "--top-p", "0"), "--top-p: '0' is no number above 0 and at most 1"),
    ((*EVAL, "--training-budget", "8q"), "--training-budget: '8q' is no number of tokens"),
    ((*GRADE, "--quantiles", "0"), "--quantiles: '0' is no whole number above 0"),
    ((*GRADE, "--easy-above", "10"), "--easy-above: '10' is no number from 0 to 1"),
    ((*GRADE, "--max-problems", "x"), "--max-problems: 'x' is no whole number above 0"),
    ((*ASYMMETRY, "--attempts", "x"), "--attempts: 'x' is no whole number"),
    ((*ASYMMETRY, "--top-p", "two"), "--top-p: 'two' is no number above 0"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_a_number_that_is_none_is_refused(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*EVAL, "--training-budget", "64"), "64: no larger one is among --budgets"),
        ((*GRADE, "--easy-above", ".1", "--hard-up-to", ".5"), "0.5 lies above --easy-above 0.1"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert words in capsys.readouterr().err


def test_tokens_can_be_written_in_thousands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main((*GRADE, "--max-tokens", "8k")) == 1
    assert "model holds no config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("grade", "--out", "graded"), "no problems of the split train; there are 0 for training"),
        (("grade", "--out", "graded", "--split", "held_out"), "--max-tokens 8192 do not fit"),
    ],
)
def test_a_split_without_problems_is_named(
    command: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As of a test set, whose problems are all held out."""
    monkeypatch.chdir(tmp_path)
    folder = write_byte_level(tmp_path / "model")
    config = {"eos_token_id": 2, "max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").touch()
    write_problems(tmp_path / "test.parquet", ProblemSet((), (TextProblem("1 2 : 3", "2"),)))
    task = "task: {kind: countdown_text, template: short, problems: test.parquet}\n"
    (tmp_path / "test.yaml").write_text(task)
    assert main((command[0], "model", "--task", "test.yaml", *command[1:])) == 1
    assert words in capsys.readouterr().err
