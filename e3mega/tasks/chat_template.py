"""Renders the chat template of a tokenizer's folder, in a sandbox and without transformers."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from e3mega.errors import E3Error, boundary

Message = Mapping[str, str]


class ChatTemplate:
    """The template of ``chat_template.jinja`` or ``tokenizer_config.json``.

    Templates come with models, so they run in jinja2's immutable sandbox.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        config = folder / "tokenizer_config.json"
        text = config.read_text(encoding="utf-8") if config.exists() else "{}"
        self._config: dict[str, Any] = json.loads(text)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        with boundary(E3Error, f"{folder}: its chat template cannot be read"):
            self._template = environment.from_string(self._source())

    def _source(self) -> str:
        file = self._folder / "chat_template.jinja"
        if file.exists():
            return file.read_text(encoding="utf-8")
        found = self._config.get("chat_template")
        if isinstance(found, list):
            found = {each["name"]: each["template"] for each in found}.get("default")
        if not isinstance(found, str):
            raise E3Error(
                f"{self._folder}: the tokenizer has no chat template; set "
                "task.uses_chat_template: false, or use a chat model's folder"
            )
        return found

    def render(self, messages: Sequence[Message]) -> str:
        """The conversation up to where the assistant's turn begins.

        Raises E3Error when the template refuses the messages.
        """
        tokens = {
            name: value["content"] if isinstance(value, dict) else value
            for name, value in self._config.items()
            if name.endswith("_token") and value is not None
        }
        with boundary(E3Error, f"{self._folder}: its chat template refuses the prompt"):
            return self._template.render(messages=messages, add_generation_prompt=True, **tokens)


def _to_json(value: object, indent: int | None = None) -> str:
    """Unlike jinja2's own filter, without escapes for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
