"""All generation servers as one: spreads groups over those that serve, passes over those that fail.

Consumes requests, produces completions. A request waits until a server serves its version;
unblocked by ``TierSync``, which gives a server the current weights before its first request.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from e3mega.errors import RefusedError, TierError
from e3mega.metrics import MetricsWriter
from e3mega.rollout.records import Completion, GroupRequest
from e3mega.rollout.sampler import Answer


class Server(Protocol):
    """One generation server, as the loop needs it."""

    async def wait_until_ready(self, deadline_s: float) -> None:
        """Return when the server answers; raises TierError at the deadline."""
        ...

    async def wait_until_gone(self) -> str:
        """Return when the process that answers has ended, with that in words."""
        ...

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """All samples of one prompt; raises TierError."""
        ...

    async def score(self, token_ids: tuple[int, ...]) -> list[float]:
        """Log-probability of each token but the first, in nats, at temperature 1."""
        ...

    def forget(self) -> int | None:
        """Never talk to the process that answered so far, but wait for one that is started anew.

        Gives the id of the process; None when none answered.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class ReplicaState(Enum):
    """What a replica can be asked."""

    STARTING = "starting"
    """Nothing: it does not answer yet, or was lost and is started again."""
    READY = "ready"
    """To take weights."""
    SERVING = "serving"
    """To generate: it has the tier's version."""


@dataclass(slots=True)
class Replica:
    """One server of the tier and what it is at. Example: ``Replica(0, server)``."""

    index: int
    server: Server
    state: ReplicaState = ReplicaState.STARTING
    depth: int = 0
    """Groups that it works on."""
    is_lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process that answers now is given up; a new one gets a new event."""


class Tier:
    """Keeps the state of each replica; belongs to one event loop.

    A request stays with one replica, the one with the fewest groups at work. If that fails, the
    request is sent to another, and the replica is passed over until it was started again.
    """

    def __init__(
        self, servers: Sequence[Server], metrics: MetricsWriter, *, start_deadline_s: float
    ) -> None:
        self.replicas = tuple(Replica(index, server) for index, server in enumerate(servers))
        self._metrics = metrics
        self._start_deadline_s = start_deadline_s
        self._changed = asyncio.Condition()
        self._watches: set[asyncio.Task[None]] = set()
        """Tasks that wait for a replica's start, or for its end."""
        self._failure: BaseException | None = None
        """What a task beside the run raised; whoever waits for a server raises it."""
        self._last_loss = ""
        self.on_ready: Callable[[Replica], Awaitable[None]] | None = None
        """Called when a replica became ready: it may be given the tier's weights."""

    def open(self) -> None:
        """Begin to wait for every server's start; later calls do nothing."""
        if not self._watches:
            for replica in self.replicas:
                self._await_start(replica)

    async def close(self) -> None:
        """Give up watching the servers, and close the connections."""
        for task in self._watches:
            task.cancel()
        for replica in self.replicas:
            await replica.server.close()

    def answering(self) -> list[Replica]:
        """The replicas that can take weights."""
        return [r for r in self.replicas if r.state is not ReplicaState.STARTING]

    async def wait_for_any(self) -> None:
        """Return when a replica can take weights; raises TierError at the deadline."""
        await self._wait(lambda: bool(self.answering()), "no generation server answers")

    async def serve(self, replicas: Sequence[Replica]) -> None:
        """These replicas have the tier's version now, and no other does."""
        for replica in self.replicas:
            if replica in replicas:
                replica.state = ReplicaState.SERVING
            elif replica.state is ReplicaState.SERVING:
                replica.state = ReplicaState.READY
        await self._notify()

    async def admit(self, replica: Replica) -> None:
        """This replica has the tier's version now too."""
        replica.state = ReplicaState.SERVING
        self._metrics.write("server_joined", server=replica.index)
        await self._notify()

    def lose(self, replica: Replica, reason: str) -> None:
        """Send the replica nothing more until it was started again."""
        replica.state = ReplicaState.STARTING
        replica.is_lost.set()
        replica.is_lost = asyncio.Event()
        self._note_loss(replica, reason, replica.server.forget())
        self._await_start(replica)

    def _note_loss(self, replica: Replica, reason: str, pid: int | None) -> None:
        self._last_loss = reason
        self._metrics.write("server_lost", server=replica.index, reason=reason, pid=pid)

    async def generate(self, request: GroupRequest) -> Answer:
        """All samples of one prompt, from whichever replica gives them.

        Raises RefusedError when the request itself is wrong, TierError when no replica is left.
        """
        num_resent = 0
        while True:
            replica = await self._pick()
            completions = await self._ask(replica, request)
            if completions is not None:
                return Answer(completions, num_resent)
            num_resent += 1

    async def _pick(self) -> Replica:
        await self._wait(lambda: bool(self._serving()), "no generation server serves")
        return min(self._serving(), key=lambda replica: replica.depth)

    def _serving(self) -> list[Replica]:
        return [r for r in self.replicas if r.state is ReplicaState.SERVING]

    async def _ask(self, replica: Replica, request: GroupRequest) -> tuple[Completion, ...] | None:
        """The replica's completions; None when it was lost."""
        is_lost = replica.is_lost
        replica.depth += 1
        work = asyncio.ensure_future(replica.server.generate(request))
        loss = asyncio.ensure_future(is_lost.wait())
        try:
            await asyncio.wait({work, loss}, return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else None
        except RefusedError:
            raise
        except TierError as error:
            if not is_lost.is_set():
                self.lose(replica, str(error))
            return None
        finally:
            replica.depth -= 1
            work.cancel()
            loss.cancel()

    def _await_start(self, replica: Replica) -> None:
        self._begin(self._start(replica))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        """Do this beside the run, which ends with whatever it raises."""
        task = asyncio.create_task(work)
        self._watches.add(task)
        task.add_done_callback(self._hear)

    def _hear(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failure = error
            self._watches.add(asyncio.create_task(self._notify()))

    async def _watch(self, replica: Replica, is_lost: asyncio.Event) -> None:
        """Lose the replica when its process ends, though nothing may be asked of it then."""
        reason = await replica.server.wait_until_gone()
        if not is_lost.is_set():
            self.lose(replica, reason)

    async def _start(self, replica: Replica) -> None:
        """Wait until the replica answers, however often its process is started."""
        while True:
            try:
                await replica.server.wait_until_ready(self._start_deadline_s)
                break
            except RefusedError:
                raise
            except TierError as error:
                self._note_loss(replica, str(error), None)
        replica.state = ReplicaState.READY
        self._begin(self._watch(replica, replica.is_lost))
        await self._notify()
        if self.on_ready is not None:
            await self.on_ready(replica)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _change(self) -> None:
        """Return at the next change of a replica's state."""
        async with self._changed:
            await self._changed.wait()

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition on the replicas' states; raises a background failure."""
        deadline = time.monotonic() + self._start_deadline_s
        while not condition():
            if self._failure is not None:
                raise self._failure
            try:
                await asyncio.wait_for(self._change(), max(0.0, deadline - time.monotonic()))
            except TimeoutError as error:
                last = f"; the last one lost: {self._last_loss}" if self._last_loss else ""
                raise TierError(f"{what} within {self._start_deadline_s:g} s{last}") from error
        if self._failure is not None:
            raise self._failure
