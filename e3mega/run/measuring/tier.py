"""Generation servers without a run: started from a model's folder, watched, closed again."""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from e3mega.errors import TierError
from e3mega.generation.client import GenerationClient
from e3mega.generation.model_folder import ModelFolder
from e3mega.generation.server import server_arguments
from e3mega.plan.jobs import server_environment
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import ServerPlan
from e3mega.run.causes import exit_words, log_cause
from e3mega.run.environment import job_environment
from e3mega.run.meeting import LOOPBACK
from e3mega.run.processes import RunningJob, start_job
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import GenerationLayout

_POLL_S = 0.2
_STOP_GRACE_S = 10.0
_PREFILL_TOKENS = 8192
VERSION = 0
"""The version that servers give to the weights of a folder; requests must ask for it."""


@dataclass(frozen=True, slots=True)
class TierOrder:
    """Which servers are wanted.

    Example: ``TierOrder(read_model_folder(path), folder, 512, GenerationLayout(),
    GenerationOptions())``.
    """

    model: ModelFolder
    folder: Path
    """For key, addresses and logs of the servers; laid out like a run's."""
    max_model_len: int
    """Longest prompt and completion together, in tokens."""
    layout: GenerationLayout
    generation: GenerationOptions


@asynccontextmanager
async def open_tier(order: TierOrder) -> AsyncGenerator[tuple[GenerationClient, ...]]:
    """Clients of ready servers that serve the folder's weights as version 0.

    Must be entered in the main thread: the servers die with it. Raises TierError when the servers
    do not start within their deadline, or, into the block, with the cause from the log when one
    of them dies. At the end of the block no process of theirs is left.
    """
    paths = RunPaths(order.folder.resolve())
    _new_key(paths)
    replicas = range(order.layout.num_replicas)
    jobs = [_start(order, paths, replica) for replica in replicas]
    task = asyncio.current_task()
    assert task is not None, "a tier is opened inside asyncio.run"
    watch = asyncio.create_task(_watch(jobs, task))
    try:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(_client(order, paths, replica))
                for replica in replicas
            ]
            start_s = order.generation.start_deadline_s
            await asyncio.gather(*(client.wait_until_ready(start_s) for client in clients))
            await asyncio.gather(*(client.label_weights(VERSION) for client in clients))
            yield tuple(clients)
    except (TierError, asyncio.CancelledError) as error:
        cause = _death(jobs)
        if cause is None:
            raise
        if watch.done() and isinstance(error, asyncio.CancelledError):
            task.uncancel()
        raise TierError(cause) from error
    finally:
        watch.cancel()
        _stop(jobs)


def _new_key(paths: RunPaths) -> None:
    """A key of its own for each start, readable by its owner only."""
    paths.run_dir.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(paths.address(0).parent, ignore_errors=True)
    paths.key.unlink(missing_ok=True)
    key = os.open(paths.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(key, "w") as file:
        file.write(secrets.token_hex(32) + "\n")


def _start(order: TierOrder, paths: RunPaths, replica: int) -> RunningJob:
    layout, generation = order.layout, order.generation
    arguments = server_arguments(
        order.model.path.resolve(),
        host=LOOPBACK,
        # Not "auto", by which vLLM halves the precision of float32 weights.
        dtype=order.model.dtype,
        server=_sizes(order),
        layout=layout,
        generation=generation,
    )
    command = (sys.executable, "-m", "e3mega.vllm_plugin.main", str(paths.key))
    return start_job(
        f"generation_{replica}",
        (*command, str(paths.address(replica)), generation.server_start.value, *arguments),
        env=job_environment(os.environ, server_environment(layout.threads_per_replica)),
        log=paths.log(f"generation_{replica}"),
        header=f"=== {time.strftime('%Y-%m-%d %H:%M:%S')}: {order.model.path}",
    )


def _sizes(order: TierOrder) -> ServerPlan:
    """Prompts are not prefilled in chunks, so a step must have room for the longest one."""
    num_seqs = order.generation.max_num_seqs
    return ServerPlan(
        max_model_len=order.max_model_len,
        max_num_seqs=num_seqs,
        max_num_batched_tokens=max(order.max_model_len, num_seqs, _PREFILL_TOKENS),
        kv_cache_bytes=order.layout.kv_cache_bytes,
    )


def _client(order: TierOrder, paths: RunPaths, replica: int) -> GenerationClient:
    return GenerationClient(
        address_file=paths.address(replica),
        key=paths.key.read_text().strip(),
        end_token_ids=order.model.end_token_ids,
        deadline_s=order.generation.request_deadline_s,
    )


async def _watch(jobs: Sequence[RunningJob], task: asyncio.Task[object]) -> None:
    """Cancel the task when a server dies, so that nothing waits for its answer."""
    while all(job.process.poll() is None for job in jobs):
        await asyncio.sleep(_POLL_S)
    task.cancel()


def _death(jobs: Sequence[RunningJob]) -> str | None:
    """Which server died and why; None while all live."""
    for job in jobs:
        status = job.process.poll()
        if status is not None:
            cause = log_cause(job.log, job.log_start) or "its log is empty"
            return f"server {job.name} {exit_words(status)}: {cause} (log: {job.log})"
    return None


def _stop(jobs: Sequence[RunningJob]) -> None:
    """End the servers with all processes below them: SIGTERM, then SIGKILL."""
    below: list[psutil.Process] = []
    for job in jobs:
        if job.process.poll() is None:
            below += psutil.Process(job.process.pid).children(recursive=True)
            job.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _STOP_GRACE_S
    for job in jobs:
        try:
            job.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()
    # Engine and workers die with their server; this is for those that are slow to.
    _, alive = psutil.wait_procs(below, timeout=_STOP_GRACE_S)
    for process in alive:
        process.kill()
