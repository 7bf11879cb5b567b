"""The learner's life in one process: build, fill the weights, obey commands."""

import json
import sys
import time

import torch.distributed as dist

from e3mega.checkpoint.manifest import newest_complete
from e3mega.checkpoint.sharded import load_checkpoint
from e3mega.checkpoint.writer import CheckpointWriter
from e3mega.device import process_rank
from e3mega.errors import E3Error
from e3mega.learner.commands import Session, run_command
from e3mega.learner.reference import References
from e3mega.learner.transfer import Transfer
from e3mega.mcore.build import build_learner
from e3mega.mcore.parallel import RankGrid, destroy_parallel, init_parallel
from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan
from e3mega.rollout.channel import CommandReceiver
from e3mega.rollout.records import Command, CommandKind, Reply
from e3mega.weights.load import load_start
from e3mega.weights.source import MegatronWeightSource

_CHECKPOINT_POLL_S = 0.2
"""Between looks at a checkpoint that is being written, while no command comes."""


def serve(plan: Plan, paths: RunPaths, attempt: int, segment: int) -> None:
    """Serve the commands of one attempt and segment until STOP; the plan is the segment's own.

    World rank 0 consumes the command files and produces the replies; every command is broadcast
    to all ranks. An error of ours becomes the reply's ``error``, and the process exits with 1.
    """
    grid = init_parallel(plan.layout.learner, process_rank())
    obey(open_session(plan, paths, grid), attempt, segment)


def open_session(plan: Plan, paths: RunPaths, grid: RankGrid) -> Session:
    """This rank's learner as the newest complete checkpoint has it, or as a run starts."""
    learner = build_learner(plan, grid)
    references = References(learner, plan, paths, {})
    version = _start(references)
    return Session(
        plan=plan,
        paths=paths,
        learner=learner,
        version=version,
        steps=references.steps,
        transfer=Transfer(MegatronWeightSource(learner), plan, paths, is_main=grid.is_main),
        writer=CheckpointWriter(learner, paths),
        metrics=MetricsWriter(paths.metrics("learner")) if grid.is_main else None,
        references=references,
    )


def obey(session: Session, attempt: int, segment: int) -> None:
    """Run the commands of one attempt and segment on this rank until STOP."""
    grid = session.learner.grid
    commands = session.paths.attempt_commands(attempt, segment)
    receiver = CommandReceiver(commands) if grid.is_main else None
    while True:
        command = None
        try:
            command = _next_command(receiver, session)
            start = time.perf_counter()
            if command.kind is CommandKind.STOP:
                session.complete_checkpoint(is_waiting=True)
                break
            reply = run_command(session, command, lambda start=start: time.perf_counter() - start)
        except E3Error as error:
            if receiver is not None and command is not None:
                receiver.reply(Reply(command.index, error=str(error)))
            reason = f"learner: world rank {grid.process.world_rank}: {error}"
            print(json.dumps({"reason": reason}), file=sys.stderr)
            sys.exit(1)
        if receiver is not None:
            receiver.reply(reply)
    destroy_parallel()
    if receiver is not None:
        receiver.reply(Reply(command.index))


def _start(references: References) -> int:
    """Fill weights and optimizer from the newest complete checkpoint, else from the start.

    Returns the version, and counts the steps taken in each stage in ``references``. World rank 0
    chooses, so that all ranks load the same one.
    """
    learner, plan, paths = references.learner, references.plan, references.paths
    grid = learner.grid
    newest = _broadcast(newest_complete(paths).folder if grid.is_main else None, grid)
    # A run that began behind stages of another may lack a reference that those had no use for.
    lacks_start = _broadcast(references.lacks_start, grid)
    if newest is None or lacks_start:
        load_start(learner, seed=plan.seed)
    if lacks_start:
        references.keep_start()
    if newest is None:
        return 0
    manifest = load_checkpoint(learner, newest, plan)
    references.steps |= {stage.name: stage.num_steps for stage in manifest.lineage.stages}
    return manifest.version


def _next_command(receiver: CommandReceiver | None, session: Session) -> Command:
    """The next command, on every rank; a pending checkpoint becomes complete meanwhile."""
    grid = session.learner.grid
    while True:
        wait_s = _CHECKPOINT_POLL_S if session.writer.is_pending else None
        command = _broadcast(None if receiver is None else receiver.next(wait_s), grid)
        session.complete_checkpoint(is_waiting=False)
        if command is not None:
            return command


def _broadcast[T](value: T, grid: RankGrid) -> T:
    """World rank 0's value on every rank; waits as long as rank 0 lives."""
    if grid.process.world_size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=grid.control)
    return box[0]
