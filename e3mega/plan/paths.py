"""Every path of a run folder; no path is joined anywhere else."""

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Paths of one run. Example: ``RunPaths(Path("runs/quickstart")).plan``."""

    run_dir: Path

    @property
    def plan(self) -> Path:
        """The compiled plan; what every job reads."""
        return self.run_dir / "plan.json"

    @property
    def set_caps(self) -> Path:
        """Caps that were set when the run was resumed."""
        return self.run_dir / "caps.jsonl"

    @property
    def resolved(self) -> Path:
        """The resolved spec, each value with its origin."""
        return self.run_dir / "resolved.yaml"

    @property
    def key(self) -> Path:
        """The run's key, mode 0600."""
        return self.run_dir / "run.key"

    @property
    def lock(self) -> Path:
        """Held by the supervisor of a live run."""
        return self.run_dir / "run.lock"

    @property
    def nodes(self) -> Path:
        """What the supervisors of the nodes tell each other."""
        return self.run_dir / "nodes"

    def segments(self, node: int) -> Path:
        """Names of the shared memory segments that a node's jobs have mapped, one a line."""
        return self.nodes / f"segments_{node}.txt"

    def node_report(self, node: int) -> Path:
        """What a node's supervisor last reported."""
        return self.nodes / f"node_{node}.json"

    @property
    def order(self) -> Path:
        """What node 0 wants of all nodes."""
        return self.nodes / "order.json"

    @property
    def stop_request(self) -> Path:
        """There while someone wants the run to leave at a checkpoint."""
        return self.run_dir / "stop"

    @property
    def model_dir(self) -> Path:
        """HF config and tokenizer that the servers start from; no weights."""
        return self.run_dir / "model"

    @property
    def model_config(self) -> Path:
        """config.json of the model that the servers start from."""
        return self.model_dir / "config.json"

    @property
    def rollouts(self) -> Path:
        """Groups: journals while a round is generated, Parquet when it is finished."""
        return self.run_dir / "rollouts"

    @property
    def batches(self) -> Path:
        """Packed batches."""
        return self.run_dir / "batches"

    @property
    def commands(self) -> Path:
        """Commands to the learner and its replies, a folder for each attempt and segment."""
        return self.run_dir / "commands"

    def attempt_commands(self, attempt: int, segment: int) -> Path:
        """The folder of commands and replies of an attempt's learner in one segment.

        Attempts are numbered from 0. The loop makes the folder when it enters the segment.
        """
        return self.commands / f"attempt_{attempt:03d}_segment_{segment}"

    @property
    def checkpoints(self) -> Path:
        """Complete and unfinished checkpoints."""
        return self.run_dir / "checkpoints"

    @property
    def references(self) -> Path:
        """Weights that KL terms compare with, each a checkpoint without an optimizer."""
        return self.run_dir / "references"

    def reference(self, name: str) -> Path:
        """The reference weights of this name."""
        return self.references / name

    @property
    def export(self) -> Path:
        """The final model as a Hugging Face folder."""
        return self.run_dir / "export" / "hf"

    @property
    def report(self) -> Path:
        """The page."""
        return self.run_dir / "report" / "index.html"

    @property
    def exit_reason(self) -> Path:
        """One JSON line per attempt: when and why it ended."""
        return self.run_dir / "attempts.jsonl"

    def log(self, job: str) -> Path:
        """What a job printed."""
        return self.run_dir / "logs" / f"{job}.log"

    def metrics(self, job: str) -> Path:
        """JSON-lines metrics of a job."""
        return self.run_dir / "metrics" / f"{job}.jsonl"

    def address(self, replica: int) -> Path:
        """Where a generation server listens, written by the server's process."""
        return self.run_dir / "addresses" / f"generation_{replica}.json"

    def learner_address(self, attempt: int) -> Path:
        """Where the learner's ranks of several nodes meet."""
        return self.run_dir / "addresses" / f"learner_{attempt:03d}.json"

    def stacks(self, node: int) -> Path:
        """Stacks of a node's processes when the run stood still."""
        return self.log(f"stacks_{node}")

    def learner_port(self, attempt: int, segment: int) -> Path:
        """At which port they meet in a segment, where stages differ in the grid."""
        return self.run_dir / "addresses" / f"learner_{attempt:03d}_segment_{segment}.txt"

    def batch(self, stage: str, step: int) -> Path:
        """The batch that the optimizer step with this global number consumes."""
        return self.batches / stage / f"step_{step:06d}.safetensors"

    def rollouts_for(self, purpose: str) -> Path:
        """Rollouts of one purpose: a folder for each stage, in it the rounds."""
        return self.rollouts / purpose

    def round_rows(self, purpose: str, stage: str, round: int) -> Path:
        """The Parquet file of a finished round's rollouts."""
        return self.rollouts / purpose / stage / f"round_{round:06d}.parquet"

    def round_journal(self, purpose: str, stage: str, round: int) -> Path:
        """The finished groups of a round that is still being generated, one JSON line each."""
        return self.rollouts / purpose / stage / f"round_{round:06d}.jsonl"

    def checkpoint(self, step: int) -> Path:
        """The checkpoint after this many finished steps."""
        return self.checkpoints / f"step_{step:06d}"

    def every_checkpoint(self) -> list[Path]:
        """The folders of all checkpoints, unfinished ones too, in no order."""
        return list(self.checkpoints.glob("step_*"))

    @staticmethod
    def sharded(checkpoint: Path) -> Path:
        """Megatron's files inside a checkpoint."""
        return checkpoint / "sharded"

    @staticmethod
    def checkpoint_model(checkpoint: Path) -> Path:
        """HF config and tokenizer inside a checkpoint, so that it can be exported by itself."""
        return checkpoint / "model"

    @staticmethod
    def holds(checkpoint: Path) -> Path:
        """One empty file for each that refers to a checkpoint; no part of its manifest."""
        return checkpoint / "held_by"

    @staticmethod
    def hold(checkpoint: Path, holder: str) -> Path:
        """The file that says that ``holder`` refers to a checkpoint."""
        return RunPaths.holds(checkpoint) / holder

    def loop_state(self, checkpoint: Path) -> Path:
        """The loop's state inside a checkpoint."""
        return checkpoint / "loop_state.json"

    @property
    def scores(self) -> Path:
        """Batches scored by the learner (canary, probes) and their log-probabilities."""
        return self.run_dir / "scores"

    @property
    def shared_stages(self) -> Path:
        """Which stages another run trained; there only if the run began behind them."""
        return self.run_dir / "shared_stages.json"

    @property
    def shared_memory(self) -> Path:
        """Weights on their way to servers of this machine; removed at the end of a run."""
        digest = hashlib.sha256(str(self.run_dir.resolve()).encode()).hexdigest()[:16]
        return Path("/dev/shm") / f"e3mega-{digest}"

    @property
    def launches(self) -> Path:
        """What nemo-run keeps of the run's launches: scripts and what the tasks printed."""
        return self.run_dir / "launches"

    @property
    def begins_behind(self) -> Path:
        """Folder of the run behind whose stages a launched run begins; gone when it has begun."""
        return self.run_dir / "begins_behind"

    @property
    def launch_record(self) -> Path:
        """How the run was last launched."""
        return self.run_dir / "launch.json"

    def provenance(self, attempt: int) -> Path:
        """What an attempt ran with: code, packages, hosts."""
        return self.run_dir / "provenance" / f"attempt_{attempt:03d}"

    @property
    def transfer(self) -> Path:
        """Weights on their way to servers of other machines."""
        return self.run_dir / "transfer"


@dataclass(frozen=True, slots=True)
class GradePaths:
    """Paths of a grading. Example: ``GradePaths(Path("runs/graded")).problems``."""

    out: Path

    @property
    def journal(self) -> Path:
        """Finished problems with their completions, one JSON line each."""
        return self.out / "graded.jsonl"

    @property
    def problems(self) -> Path:
        """The data set that ``task.problems`` names."""
        return self.out / "problems.parquet"

    @property
    def completions(self) -> Path:
        """The completions that ``task.traces`` names."""
        return self.out / "completions.parquet"

    @property
    def summary(self) -> Path:
        """Counts and pass rates."""
        return self.out / "summary.json"

    @property
    def asymmetry(self) -> Path:
        """What ``e3mega asymmetry`` measured."""
        return self.out / "asymmetry.json"


MANIFEST = "manifest.json"
"""Makes a checkpoint complete; the last of its files."""


def command_file(folder: Path, index: int) -> Path:
    """The command with this index in an attempt's folder."""
    return folder / f"{index:06d}.json"


def reply_file(folder: Path, index: int) -> Path:
    """The reply to the command with this index."""
    return folder / f"{index:06d}.reply.json"


def unfinished(path: Path) -> Path:
    """Where a file is written before it is renamed to ``path``; same folder, hidden."""
    return path.with_name(f".{path.name}.unfinished")


def default_run_dir(name: str) -> Path:
    """``runs/NAME`` in the checkout, where git ignores it."""
    return Path(__file__).resolve().parents[2] / "runs" / name


def default_run_root() -> Path:
    """``runs`` in the checkout: the folder of run folders."""
    return Path(__file__).resolve().parents[2] / "runs"


def launchers_dir() -> Path:
    """``launchers`` in the checkout: the profiles of sites."""
    return Path(__file__).resolve().parents[2] / "launchers"


def sweep_run_dir(spec: Path) -> Path:
    """The folder of a run of a sweep: beside its spec, and of its name."""
    return spec.with_suffix("")


def sweep_report(folder: Path) -> Path:
    """The page that compares the runs of a sweep in ``folder``."""
    return folder / "report" / "index.html"
