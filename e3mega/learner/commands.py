"""What the learner does for each kind of command; every rank runs the same handler."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from safetensors.numpy import save

from e3mega.checkpoint.hf import write_hf_folder
from e3mega.checkpoint.manifest import Manifest, read_manifest
from e3mega.checkpoint.retention import remove_others
from e3mega.checkpoint.writer import CheckpointWriter
from e3mega.errors import JobError
from e3mega.learner.finite import check_weights
from e3mega.learner.gradients import sign_norms
from e3mega.learner.lineage import lineage
from e3mega.learner.micro_batch import RoundScores
from e3mega.learner.reference import References
from e3mega.learner.round_scores import round_scores
from e3mega.learner.step import score, train_step
from e3mega.learner.transfer import Transfer
from e3mega.mcore.build import LearnerModel
from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import MANIFEST, RunPaths
from e3mega.plan.planfile import Plan, StagePlan
from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.batch_file import read_batch
from e3mega.rollout.records import Command, CommandKind, Reply
from e3mega.rollout.whole_file import write_whole
from e3mega.spec.schema.curriculum import StageMode
from e3mega.weights.source import MegatronWeightSource


@dataclass(slots=True)
class Session:
    """The learner between commands: its model, its plan, and how many steps it has finished."""

    plan: Plan
    paths: RunPaths
    learner: LearnerModel
    version: int
    steps: dict[str, int]
    """Optimizer steps taken in each stage that has trained."""
    transfer: Transfer
    writer: CheckpointWriter
    metrics: MetricsWriter | None
    """On world rank 0."""
    references: References

    def stage(self, command: Command) -> StagePlan:
        """The stage a command names."""
        for stage in self.plan.stages:
            if stage.name == command.stage:
                return stage
        raise JobError(f"learner: command {command.index}: the plan has no stage {command.stage!r}")

    def complete_checkpoint(self, *, is_waiting: bool) -> None:
        """Complete the checkpoint that is being written, and remove those no longer kept.

        A collective. Waits for its files, or leaves it pending while they are being written.
        """
        written = self.writer.finish() if is_waiting else self.writer.poll()
        if written is None or self.metrics is None:
            return
        remove_others(self.paths, self.plan.checkpoint)
        folders = [path for path in self.paths.every_checkpoint() if (path / MANIFEST).exists()]
        self.references.remove_unneeded([read_manifest(folder) for folder in folders])
        self.metrics.write(
            "checkpoint_complete",
            version=written.version,
            num_bytes=written.num_bytes,
            seconds=written.seconds,
        )


def train(session: Session, command: Command) -> Reply:
    """One optimizer step per batch file, in order; the files of one command are one round."""
    stage = session.stage(command)
    _check_version(session, command)
    batches = [_batch(session, file) for file in command.batch_files]
    known = round_scores(
        session.learner, session.references, stage, batches, stage_step=command.stage_step
    )
    steps: list[dict[str, float]] = []
    for batch, own in zip(batches, known, strict=True):
        if batch.step != session.version:
            raise JobError(
                f"learner: a batch for step {batch.step} of stage {batch.stage} came, but "
                f"{session.version} steps are finished; it would be trained on twice or too soon"
            )
        signs = _sign_norms(session, stage, batch, own)
        steps.append(
            signs
            | train_step(
                session.learner,
                batch,
                stage,
                stage_step=command.stage_step + len(steps),
                known=own,
            )
        )
        session.version += 1
        session.steps[stage.name] = command.stage_step + len(steps)
    session.learner.gather_parameters()
    return Reply(command.index, steps=tuple(steps))


def _sign_norms(
    session: Session, stage: StagePlan, batch: PackedBatch, known: RoundScores
) -> dict[str, float]:
    """Of an RL step, when one is due."""
    every = session.plan.logging.sign_gradients_every_steps
    if stage.mode is StageMode.SUPERVISED or every is None or batch.step % every:
        return {}
    temperature = stage.generation.temperature
    return sign_norms(session.learner, batch, stage.loss, temperature=temperature, known=known)


def score_tokens(session: Session, command: Command) -> Reply:
    """Write the log-probabilities of every token of one batch file, ``logprobs`` (N, T).

    At the temperature of the stage that the command names, at 1 when it names none.
    """
    if len(command.batch_files) != 1:
        raise JobError(
            f"learner: command {command.index} scores {len(command.batch_files)} batch files; "
            "one command scores one"
        )
    batch = _batch(session, command.batch_files[0])
    temperature = session.stage(command).generation.temperature if command.stage else 1.0
    logprobs_NT = score(session.learner, batch, temperature=temperature)
    if logprobs_NT is not None:
        output = session.paths.run_dir / command.output_file
        write_whole(output, save({"logprobs": logprobs_NT}))
    return Reply(command.index)


def sync(session: Session, command: Command) -> Reply:
    """Send the weights to the named servers; what they installed is compared with what was sent."""
    _check_version(session, command)
    check_weights(session.learner, f"the weights of version {command.version} are not sent")
    outcome = session.transfer.send(command.version, command.servers)
    if outcome is None:
        return Reply(command.index)
    report = outcome.report
    if report is None:
        return Reply(command.index, lost_servers=outcome.lost)
    facts = {"bytes": float(report.num_bytes), "num_tensors": float(report.num_tensors)}
    return Reply(command.index, steps=(facts,), lost_servers=outcome.lost)


def checkpoint(session: Session, command: Command) -> Reply:
    """Start on a checkpoint; the one before becomes complete first if it is not yet."""
    _check_version(session, command)
    check_weights(session.learner, f"no checkpoint of version {command.version} is taken")
    session.complete_checkpoint(is_waiting=True)
    plan = session.plan
    session.writer.begin(
        Manifest(
            version=command.version,
            stage=command.stage,
            model=plan.model,
            layout=session.learner.grid.layout,
            lineage=lineage(plan, session.steps),
            has_optimizer=True,
            score=command.score,
            files={},
        ),
        loop_state=command.loop_state,
        is_asynchronous=plan.checkpoint.is_asynchronous,
    )
    if not plan.checkpoint.is_asynchronous:
        session.complete_checkpoint(is_waiting=True)
    return Reply(command.index)


def export(session: Session, command: Command) -> Reply:
    """Write the weights as a Hugging Face folder."""
    _check_version(session, command)
    plan, paths = session.plan, session.paths
    tensors = MegatronWeightSource(session.learner)
    if not session.learner.grid.is_main:
        for _ in tensors:
            pass
        return Reply(command.index)
    write_hf_folder(
        ((name, value) for name, value in tensors if value is not None),
        paths.export,
        model=plan.model,
        lineage=lineage(plan, session.steps),
        description=paths.model_dir,
    )
    return Reply(command.index)


HANDLERS: dict[CommandKind, Callable[[Session, Command], Reply]] = {
    CommandKind.TRAIN: train,
    CommandKind.SCORE: score_tokens,
    CommandKind.SYNC: sync,
    CommandKind.CHECKPOINT: checkpoint,
    CommandKind.EXPORT: export,
}
"""Every command but STOP, which ends the serving."""


def run_command(session: Session, command: Command, elapsed_s: Callable[[], float]) -> Reply:
    """Run a command's handler; the reply tells the seconds that ``elapsed_s`` gives at its end."""
    reply = HANDLERS[command.kind](session, command)
    return replace(reply, seconds=elapsed_s())


def _batch(session: Session, file: str) -> PackedBatch:
    return read_batch(session.paths.run_dir / file)


def _check_version(session: Session, command: Command) -> None:
    if command.version != session.version:
        raise JobError(
            f"learner: command {command.index} ({command.kind.value}) is for version "
            f"{command.version}, but the learner has finished {session.version} steps"
        )
