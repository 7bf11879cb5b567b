"""Builds a task from its options, and gives a model folder the task's tokenizer."""

import shutil
from pathlib import Path

from e3mega.errors import E3Error
from e3mega.tasks.countdown.form import CountdownForm
from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.task import CountdownTask
from e3mega.tasks.countdown.text import CountdownTextOptions
from e3mega.tasks.interface import Task
from e3mega.tasks.math.form import MathForm
from e3mega.tasks.math.options import MathOptions
from e3mega.tasks.multiplication.form import MultiplicationForm
from e3mega.tasks.multiplication.options import MultiplicationOptions
from e3mega.tasks.options import TaskOptions
from e3mega.tasks.own.form import OwnForm
from e3mega.tasks.own.tokenizer import write_own_tokenizer
from e3mega.tasks.sizes import own_words
from e3mega.tasks.text_form import TextForm
from e3mega.tasks.text_options import GradingOptions
from e3mega.tasks.text_task import TextTask

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
)


def build_task(options: TaskOptions, seed: int, model_dir: Path) -> Task:
    """The task that the options name; the same options, seed and tokenizer give the same task.

    ``model_dir`` holds the tokenizer that tasks of plain text are read and written with.
    """
    if isinstance(options, CountdownOptions):
        return CountdownTask(options, seed)
    form, grading = _form(options, seed)
    return TextTask.from_folder(form, options, grading, model_dir, seed)


def _form(options: TaskOptions, seed: int) -> tuple[TextForm, GradingOptions]:
    if isinstance(options, CountdownTextOptions):
        return CountdownForm(options, seed), GradingOptions()
    if isinstance(options, MultiplicationOptions):
        return MultiplicationForm(options, seed), GradingOptions()
    if isinstance(options, MathOptions):
        return MathForm(options, seed), options.grading
    assert not isinstance(options, CountdownOptions), "it is no task of plain text"
    return OwnForm(options, seed), options.grading


def provide_tokenizer(options: TaskOptions, hf_path: str | None, seed: int, folder: Path) -> None:
    """Put the tokenizer of a run into the folder that its servers start from.

    It is the model's own where the run starts from weights, else one of the task's language;
    E3Error when there is neither.
    """
    if isinstance(options, CountdownOptions):
        CountdownTask(options, seed).write_tokenizer(folder)
    elif hf_path is not None:
        _copy(Path(hf_path), folder)
    elif words := own_words(options):
        write_own_tokenizer(words, folder)
    else:
        raise E3Error(
            f"task.kind = {options.kind} needs the tokenizer of a model; set model.hf_path"
        )


def _copy(source: Path, folder: Path) -> None:
    if not (source / "tokenizer.json").exists():
        raise E3Error(
            f"model.hf_path = {source} holds no tokenizer.json; add the model's tokenizer"
        )
    for name in _TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)
