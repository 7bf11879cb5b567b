"""Reads the committed tables of signatures and says how a value misses its parameter."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from e3mega.metrics import Json

_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "flag": "true",
    "list": "a list",
    "mapping": "a mapping",
    "null": "null",
    "object": "what e3mega makes itself",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """What one argument or field takes. Example: ``Parameter(("integer", "null"))``."""

    kinds: tuple[str, ...]
    """Of ``string integer number boolean flag list mapping null``; ``object`` is no YAML value."""
    choices: tuple[str, ...] = ()
    """The texts it may be; empty for any."""
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class _ServerTable:
    package: str
    version: str
    arguments: dict[str, Parameter]


@dataclass(frozen=True, slots=True)
class _ClassTable:
    package: str
    version: str
    classes: dict[str, dict[str, Parameter]]


@cache
def _server_table() -> _ServerTable:
    text = (Path(__file__).parent / "vllm_server.json").read_bytes()
    return TypeAdapter(_ServerTable).validate_json(text)


def vllm_server_arguments() -> dict[str, Parameter]:
    """Long arguments of vLLM's server by their names with underscores."""
    return _server_table().arguments


def vllm_version() -> str:
    """The version of vLLM whose arguments the table holds."""
    return _server_table().version


@cache
def nemo_run_classes() -> dict[str, dict[str, Parameter]]:
    """Fields of nemo-run's executors, tunnels, packagers and launchers, by class.

    Example: ``nemo_run_classes()["SlurmExecutor"]["partition"].kinds``.
    """
    text = (Path(__file__).parent / "nemo_run.json").read_bytes()
    return TypeAdapter(_ClassTable).validate_json(text).classes


def misfit(parameter: Parameter, value: Json) -> str:
    """What the parameter needs instead of the value; empty when the value fits.

    Example: ``misfit(Parameter(("integer",)), "2") == "a whole number"``.
    """
    if not any(_is_of_kind(kind, value) for kind in parameter.kinds):
        return " or ".join(_WORDS[kind] for kind in parameter.kinds)
    texts = value if isinstance(value, list) else [value]
    is_chosen = all(value is None or str(text) in parameter.choices for text in texts)
    if parameter.choices and not is_chosen:
        return f"one of {', '.join(parameter.choices)}"
    return ""


def _is_of_kind(kind: str, value: Json) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "flag":
        return value is True
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    types = {"string": str, "list": list, "mapping": dict, "null": type(None)}
    return kind in types and isinstance(value, types[kind])
