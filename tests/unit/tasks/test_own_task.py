"""A user's own task: the file and the fragment of docs/tasks.md, written and used."""

import asyncio
import hashlib
import re
from pathlib import Path

import pytest

from e3mega.errors import E3Error
from e3mega.plan.compile import checked_plan
from e3mega.spec.resolve import resolve_spec
from e3mega.spec.task_file import named_task
from e3mega.tasks.catalog import build_task
from e3mega.tasks.failure import Failure
from e3mega.tasks.own.options import OwnOptions
from e3mega.tasks.text_task import TextTask
from e3mega.tasks.text_tokenizer import TextTokenizer
from tests.text_tokenizers import write_byte_level

DOCS = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text(encoding="utf-8")
SECTION = DOCS[DOCS.index("## A task of your own") :]
FILE = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)[0]
FRAGMENT, RUN = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture
def options(tmp_path: Path) -> OwnOptions:
    """What the fragment says, with the file where the test put it."""
    file = tmp_path / "reverse.py"
    file.write_text(FILE, encoding="utf-8")
    fragment = tmp_path / "reverse.yaml"
    fragment.write_text(FRAGMENT.replace("my_tasks/reverse.py", str(file)), encoding="utf-8")
    name, options = named_task(str(fragment))
    assert name == "reverse" and isinstance(options, OwnOptions)
    return options


def make(options: OwnOptions, tmp_path: Path) -> TextTask:
    folder = write_byte_level(tmp_path / "model")
    task = build_task(options, 1, folder)
    assert isinstance(task, TextTask)
    return task


def test_one_file_and_one_fragment_make_a_task(options: OwnOptions, tmp_path: Path) -> None:
    task = make(options, tmp_path)
    tokenizer = TextTokenizer(tmp_path / "model")
    prompt = task.training_prompt(0)
    assert task.text(prompt.token_ids) == f"Reverse {prompt.problem}:"
    assert len(prompt.problem) == 5 and len(task.held_out_prompts(40)) == 40

    async def check() -> None:
        trace = task.trace(3)
        assert (await task.judge(trace.prompt, trace.token_ids)).reward == 1.0
        wrong = (*tokenizer.ids("abc"), *task.end_token_ids)
        marks = await task.judge(prompt, wrong)
        assert (marks.reward, marks.failure) == (0.0, Failure.NONE)
        assert (await task.judge(prompt, wrong[:-1])).failure is Failure.UNFINISHED
        await task.close()

    asyncio.run(check())


def test_a_run_of_it_plans(options: OwnOptions, tmp_path: Path) -> None:
    run = tmp_path / "run.yaml"
    run.write_text(RUN, encoding="utf-8")
    (stage,) = checked_plan(resolve_spec(run)).stages
    assert stage.task == options


def test_options_and_content_of_the_file_are_checked(options: OwnOptions, tmp_path: Path) -> None:
    with pytest.raises(E3Error, match=r"task.options.lenght.*length"):
        make(options.model_copy(update={"options": {"lenght": 3}}), tmp_path)
    digest = hashlib.sha256(Path(options.path).read_bytes()).hexdigest()
    make(options.model_copy(update={"sha256": digest}), tmp_path)
    with pytest.raises(E3Error, match="SHA-256"):
        make(options.model_copy(update={"sha256": "0" * 64}), tmp_path)
    with pytest.raises(E3Error, match="no such file"):
        make(options.model_copy(update={"path": "none.py"}), tmp_path)
    Path(options.path).write_text("Options = None\n", encoding="utf-8")
    with pytest.raises(E3Error, match="does not define problems, prompt, grade"):
        make(options, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "    import random",
            "    return None",
            "reverse.py: problems gave NoneType; need two lists",
        ),
        ('[(w, "all") for w in words[40:]]', "words[40:]", "as a problem; need a pair"),
        ('"""Reverse a word."""', 'open("no.txt")', "FileNotFoundError: .*no.txt"),
    ],
)
def test_a_mistake_in_the_file_is_named(
    old: str, new: str, words: str, options: OwnOptions, tmp_path: Path
) -> None:
    assert old in FILE
    Path(options.path).write_text(FILE.replace(old, new), encoding="utf-8")
    with pytest.raises(E3Error, match=words):
        make(options, tmp_path).training_prompt(0)
