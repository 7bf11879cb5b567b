"""Commands and replies over files."""

import asyncio
import threading
from pathlib import Path

import pytest

from e3mega.errors import JobError
from e3mega.rollout.channel import CommandReceiver, CommandSender
from e3mega.rollout.records import Command, CommandKind, Reply


def _serve(folder: Path, replies: list[Reply]) -> tuple[threading.Thread, list[Command]]:
    seen: list[Command] = []

    def run() -> None:
        receiver = CommandReceiver(folder)
        for reply in replies:
            command = receiver.next(wait_s=10)
            assert command is not None
            seen.append(command)
            receiver.reply(reply)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, seen


def test_a_command_and_its_reply_arrive_unchanged_and_in_order(tmp_path: Path) -> None:
    train = Command(
        0, CommandKind.TRAIN, stage="easy", stage_step=3, batch_files=("a", "b"), version=7
    )
    checkpoint = Command(1, CommandKind.CHECKPOINT, version=9, loop_state='{"cursor": 4}')
    told = Reply(0, seconds=0.25, steps=({"loss": 0.1}, {"loss": 1e-17}))
    thread, seen = _serve(tmp_path, [told, Reply(1)])

    async def drive() -> list[Reply]:
        sender = CommandSender(tmp_path)
        return [await sender.send(c, deadline_s=10) for c in (train, checkpoint)]

    assert asyncio.run(drive()) == [told, Reply(1)]
    thread.join(10)
    assert seen == [train, checkpoint]


def test_a_reply_may_carry_a_number_that_is_not_finite(tmp_path: Path) -> None:
    _serve(tmp_path, [Reply(0, steps=({"loss": float("inf")},))])
    sender = CommandSender(tmp_path)
    reply = asyncio.run(sender.send(Command(0, CommandKind.STOP), deadline_s=10))
    assert reply.steps[0]["loss"] == float("inf")


def test_an_error_reply_is_raised_with_its_reason(tmp_path: Path) -> None:
    _serve(tmp_path, [Reply(0, error="the loss of step 4 is nan")])
    sender = CommandSender(tmp_path)
    with pytest.raises(JobError, match="step 4 is nan"):
        asyncio.run(sender.send(Command(0, CommandKind.TRAIN), deadline_s=10))


def test_a_dead_learner_ends_the_wait_at_once(tmp_path: Path) -> None:
    sender = CommandSender(tmp_path)
    with pytest.raises(JobError, match="gone"):
        asyncio.run(
            sender.send(Command(0, CommandKind.SYNC), deadline_s=600, is_alive=lambda: False)
        )


def test_no_reply_is_an_error_after_the_deadline(tmp_path: Path) -> None:
    sender = CommandSender(tmp_path)
    with pytest.raises(JobError, match="no reply"):
        asyncio.run(sender.send(Command(0, CommandKind.SYNC), deadline_s=0.05))


def test_the_receiver_does_not_see_commands_of_another_attempt(tmp_path: Path) -> None:
    old = CommandSender(tmp_path / "attempt_000")
    with pytest.raises(JobError):
        asyncio.run(old.send(Command(0, CommandKind.STOP), deadline_s=0.0))
    assert CommandReceiver(tmp_path / "attempt_001").next(wait_s=0.05) is None
