"""Writes a learner's checkpoints, while it trains on if the spec says so."""

import gc
import queue
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncCallsQueue, AsyncRequest
from torch.distributed.checkpoint.api import CheckpointException

from e3mega.checkpoint.handover import Handover
from e3mega.checkpoint.manifest import FileFacts, Manifest, file_facts, write_manifest
from e3mega.checkpoint.sharded import state_to_save, weights_to_save
from e3mega.errors import CheckpointError
from e3mega.mcore.build import LearnerModel
from e3mega.plan.paths import RunPaths


@dataclass(frozen=True, slots=True)
class Written:
    """A checkpoint that became complete. Example: ``Written(310, 2_442_113, 0.8)``."""

    version: int
    num_bytes: int
    seconds: float
    """From the order to the manifest, training in between included."""


@dataclass(frozen=True, slots=True)
class _Pending:
    manifest: Manifest
    folder: Path
    start: float


class CheckpointWriter:
    """Writes one checkpoint at a time; lives on every rank, and every method is a collective.

    ``begin`` forks a process on each rank that has something to write: it holds the weights as
    they were, while the rank trains on. ``poll`` or ``finish`` makes the checkpoint complete once
    all of them have ended; until then it has no manifest, and a kill leaves the one before as the
    newest. Megatron's own asynchronous writer is used (``async_strategy="mcore"``).
    """

    def __init__(self, learner: LearnerModel, paths: RunPaths) -> None:
        self._learner = learner
        self._paths = paths
        self._calls = AsyncCallsQueue(persistent=False)
        self._results = Handover()
        self._digests = Handover()
        self._pending: _Pending | None = None
        # Megatron's optimizer collects garbage in every save and looks at whatever is alive; what
        # is alive now, the libraries and the model, stays so, and is passed over from here on.
        gc.collect()
        gc.freeze()

    @property
    def is_pending(self) -> bool:
        """Whether a checkpoint is being written; the same on every rank."""
        return self._pending is not None

    def begin(self, manifest: Manifest, *, loop_state: str, is_asynchronous: bool) -> None:
        """Start on a checkpoint, whose manifest lacks only its files; nothing may be pending.

        A leftover of a killed save is removed first. If it is not asynchronous, all files are
        written when this returns, and ``finish`` completes it without waiting. Raises
        CheckpointError when a file cannot be written.
        """
        folder = self._paths.checkpoint(manifest.version)
        request = self._started(manifest, folder, state_to_save(self._learner))
        if self._is_main:
            # The manifest has it reach the disk, with all else.
            self._paths.loop_state(folder).write_text(loop_state, encoding="utf-8")
        if is_asynchronous:
            self._calls.schedule_async_request(request)
        else:
            self._run(request.execute_sync)

    def write_weights(self, manifest: Manifest, folder: Path) -> None:
        """Write the weights alone to a folder, as a checkpoint without an optimizer, to the end.

        Nothing may be pending; what is in the folder is removed first. Raises CheckpointError
        when a file cannot be written.
        """
        request = self._started(manifest, folder, weights_to_save(self._learner))
        self._run(request.execute_sync)
        self.finish()

    def poll(self) -> Written | None:
        """Complete the pending checkpoint if all ranks have written; None while one has not.

        Raises CheckpointError when a file could not be written.
        """
        return self._completed(is_blocking=False)

    def finish(self) -> Written | None:
        """Wait for the pending checkpoint and complete it; None when there was none."""
        return self._completed(is_blocking=True)

    @property
    def _is_main(self) -> bool:
        return self._learner.grid.is_main

    def _started(self, manifest: Manifest, folder: Path, state: dict[str, Any]) -> AsyncRequest:
        """Make the folder, and Megatron's request that will write the state into it."""
        assert self._pending is None, "one checkpoint at a time"
        self._pending = _Pending(manifest, folder, time.perf_counter())
        sharded = RunPaths.sharded(folder)
        if self._is_main:
            shutil.rmtree(folder, ignore_errors=True)
            sharded.mkdir(parents=True)
            if self._paths.model_dir.exists():
                shutil.copytree(self._paths.model_dir, RunPaths.checkpoint_model(folder))
        dist.barrier(group=self._learner.grid.control)
        filesystem_async._results_queue = self._results  # pyright: ignore[reportAttributeAccessIssue] -- a queue by its methods
        request = dist_checkpointing.save(
            state, str(sharded), async_sharded_save=True, async_strategy="mcore"
        )
        assert isinstance(request, AsyncRequest), "an asynchronous save gives a request"
        return self._with_digests(request, sharded)

    def _with_digests(self, request: AsyncRequest, sharded: Path) -> AsyncRequest:
        """The request, whose process then digests what it wrote, so that the rank need not."""
        if request.async_fn is None:
            return request
        _, buckets, _ = request.async_fn_args
        names = [Path(path).name for path, *_ in buckets]
        digesting = partial(_write_and_digest, request.async_fn, sharded, names, self._digests)
        return request._replace(async_fn=digesting)

    def _completed(self, *, is_blocking: bool) -> Written | None:
        if self._pending is None:
            return None
        self._run(partial(self._calls.maybe_finalize_async_calls, blocking=is_blocking))
        if self._calls.get_num_unfinalized_calls():
            return None
        pending, self._pending = self._pending, None
        own = _taken(self._digests)
        every: list[dict[str, FileFacts]] = [{} for _ in range(dist.get_world_size())]
        dist.all_gather_object(every, own, group=self._learner.grid.control)
        written = Written(pending.manifest.version, 0, 0.0)
        if self._is_main:
            written = _complete(pending, every)
        dist.barrier(group=self._learner.grid.control)
        return written

    def _run(self, save: Callable[[], object]) -> None:
        try:
            save()
        except CheckpointException as error:
            pending = self._pending
            assert pending is not None, "only a pending checkpoint is written"
            reasons = "; ".join(str(failure[0]) for failure in error.failures.values())
            raise CheckpointError(
                f"{pending.folder}: the checkpoint could not be written; its disk may be full: "
                f"{reasons or 'another rank has the reason'}"
            ) from error


def _write_and_digest(
    write: Callable[..., None],
    sharded: Path,
    names: list[str],
    digests: Handover,
    *arguments: Any,
    **more: Any,
) -> None:
    """In the forked process: write this rank's files, then leave their digests."""
    write(*arguments, **more)
    written = [name for name in names if (sharded / name).exists()]
    digests.put(file_facts(sharded, written))


def _taken(digests: Handover) -> dict[str, FileFacts]:
    """The digests this rank's process left; none where it had nothing to write."""
    try:
        return digests.get_nowait()
    except queue.Empty:
        return {}


def _complete(pending: _Pending, every: list[dict[str, FileFacts]]) -> Written:
    """Write the manifest: the ranks' files, and the few that were written beside them."""
    folder = pending.folder
    sharded = RunPaths.sharded(folder)
    facts = {
        str((sharded / name).relative_to(folder)): fact
        for rank in every
        for name, fact in rank.items()
    }
    others = [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and str(path.relative_to(folder)) not in facts
    ]
    facts |= file_facts(folder, others)
    ordered = dict(sorted(facts.items()))
    write_manifest(folder, replace(pending.manifest, files=ordered))
    num_bytes = sum(fact.num_bytes for fact in ordered.values())
    return Written(pending.manifest.version, num_bytes, time.perf_counter() - pending.start)
