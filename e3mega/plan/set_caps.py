"""Caps that a person set when a run was resumed; they lie over those of its plan.

A plan never changes, and caps change nothing that a run computes, only when it stops. So the run
folder keeps what was set in a file of its own, one JSON line a key, the last one of a key counts.
"""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from e3mega.curriculum.options import TokenCaps
from e3mega.errors import E3Error
from e3mega.plan.planfile import Plan

_KEY = re.compile(r"curriculum\.(?:stages\.(?P<stage>[^.]+)\.)?caps\.(?P<cap>[^.]+)")


def parse_caps(plan: Plan, sets: Sequence[str]) -> dict[str, int | None]:
    """The caps that ``KEY=VALUE`` words set, ``null`` for none; E3Error with what is no cap."""
    found: dict[str, int | None] = {}
    for word in sets:
        key, _, text = word.partition("=")
        match = _KEY.fullmatch(key)
        stages = [stage.name for stage in plan.stages]
        if match is None or (match["stage"] or stages[0]) not in stages:
            raise E3Error(
                f"resume --set {word}: only caps can be set when a run goes on, as in "
                f"curriculum.caps.max_generated_tokens=2000k or curriculum.stages.{stages[-1]}"
                ".caps.max_trained_tokens=null; for another value start a new run"
            )
        if key in found:
            raise E3Error(f"resume --set {word}: {key} is set twice; set it once")
        try:
            caps = TokenCaps.model_validate({match["cap"]: _value(text)})
        except ValidationError as error:
            names = ", ".join(TokenCaps.model_fields)
            raise E3Error(
                f"resume --set {word}: {error.errors()[0]['msg']}; the caps are {names}, each a "
                "number of tokens or null"
            ) from error
        found[key] = getattr(caps, match["cap"])
    return found


def _value(text: str) -> int | str | None:
    if text == "null":
        return None
    return int(text) if text.isdecimal() else text


def append_caps(path: Path, caps: dict[str, int | None]) -> None:
    """Record what was set, and when."""
    lines = [
        json.dumps({"time": time.time(), "key": key, "value": value}) + "\n"
        for key, value in caps.items()
    ]
    with path.open("a") as file:
        file.writelines(lines)


def with_caps(plan: Plan, path: Path) -> Plan:
    """The plan with what was set in the file over its own caps."""
    if not path.exists():
        return plan
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        match = _KEY.fullmatch(record["key"])
        assert match is not None, f"{path}: {record['key']} is no cap"
        update = {match["cap"]: record["value"]}
        if match["stage"] is None:
            plan = replace(plan, caps=plan.caps.model_copy(update=update))
            continue
        stages = tuple(
            replace(stage, caps=stage.caps.model_copy(update=update))
            if stage.name == match["stage"]
            else stage
            for stage in plan.stages
        )
        plan = replace(plan, stages=stages)
    return plan
