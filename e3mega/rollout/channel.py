"""Commands from the loop to the learner and its replies, as files that appear by rename.

The loop produces ``000003.json`` in its attempt's folder and waits for ``000003.reply.json``. The
learner's world rank 0 consumes the commands in order of their index and produces the replies. One
attempt of a run owns one folder, so a resumed run never sees an old command.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from e3mega.errors import JobError, RecordError
from e3mega.plan.paths import command_file, reply_file, unfinished
from e3mega.rollout.records import Command, Reply

_SHORTEST_POLL_S = 0.001
_LONGEST_POLL_S = 0.02

_COMMAND = TypeAdapter(Command)
_REPLY = TypeAdapter(Reply)


class CommandSender:
    """The loop's end of one attempt's folder; one command is under way at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.next_index = 0

    async def send(
        self,
        command: Command,
        *,
        deadline_s: float,
        is_alive: Callable[[], bool] | None = None,
    ) -> Reply:
        """Give the learner a command whose index is ``next_index``; returns its reply.

        Consumes the reply file; unblocked by the learner's ``CommandReceiver.reply``. Raises
        JobError when the reply tells an error, when ``is_alive`` says that the learner is gone,
        or after ``deadline_s`` seconds.
        """
        assert command.index == self.next_index, f"command {command.index} is out of order"
        self.next_index += 1
        what = f"command {command.index} ({command.kind.value}) to the learner"
        _write(
            command_file(self._folder, command.index), _COMMAND.dump_python(command, mode="json")
        )
        path = reply_file(self._folder, command.index)
        deadline = time.monotonic() + deadline_s
        for pause_s in _pauses():
            is_running = is_alive is None or is_alive()
            if path.exists():
                return _checked(_read(path, _REPLY), what)
            if not is_running:
                raise JobError(f"{what}: the learner is gone; its log says why")
            if time.monotonic() > deadline:
                raise JobError(f"{what}: no reply within {deadline_s:g} s; see the learner's log")
            await asyncio.sleep(pause_s)
        raise AssertionError("the pauses never end")


class CommandReceiver:
    """The learner's end of one attempt's folder, held by world rank 0."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._next_index = 0

    def next(self, wait_s: float | None = None) -> Command | None:
        """The next command in order; None when there is none within ``wait_s`` seconds.

        Consumes a command file; unblocked by ``CommandSender.send``. With None it waits as long
        as the process lives.
        """
        path = command_file(self._folder, self._next_index)
        deadline = None if wait_s is None else time.monotonic() + wait_s
        for pause_s in _pauses():
            if path.exists():
                self._next_index += 1
                return _read(path, _COMMAND)
            if deadline is not None and time.monotonic() > deadline:
                return None
            time.sleep(pause_s)
        raise AssertionError("the pauses never end")

    def reply(self, reply: Reply) -> None:
        """Answer the command of the same index."""
        _write(reply_file(self._folder, reply.index), _REPLY.dump_python(reply, mode="json"))


def _pauses() -> Iterator[float]:
    """Polling intervals in seconds: short at first, then long enough to cost nothing."""
    pause_s = _SHORTEST_POLL_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.2, _LONGEST_POLL_S)


def _checked(reply: Reply, what: str) -> Reply:
    if reply.error:
        raise JobError(f"{what}: {reply.error}")
    return reply


def _write(path: Path, content: object) -> None:
    # json keeps infinities and NaN, which pydantic's own writer turns into null.
    partial = unfinished(path)
    partial.write_text(json.dumps(content, allow_nan=True))
    partial.rename(path)


def _read[T](path: Path, adapter: TypeAdapter[T]) -> T:
    try:
        return adapter.validate_json(path.read_bytes())
    except ValidationError as error:
        raise RecordError(f"{path}: {error}") from error
