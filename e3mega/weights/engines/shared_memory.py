"""The sending end of the shared-memory engine: vLLM's trainer interface over a file in memory.

World rank 0 of the learner writes the HF-named tensors to a safetensors file under /dev/shm, has
every server install it, and compares names and checksums as sent with those as installed.
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from safetensors.torch import save_file
from vllm.distributed.weight_transfer.base import (
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
)

from e3mega.errors import TierError
from e3mega.weights.checksum import tensor_checksum
from e3mega.weights.engines.messages import BACKEND, TensorReport, compare_reports, read_report

_RESET_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync moved. Example: ``SyncReport(12, 26, 2600000, 0.04)``."""

    version: int
    num_tensors: int
    num_bytes: int
    seconds: float


class KeyedClient:
    """vLLM's weight-sync control plane over HTTP, with the run's key on every request."""

    def __init__(self, name: str, host: str, port: int, *, key: str, deadline_s: float) -> None:
        self.name = name
        self._url = f"http://{host}:{port}"
        self._key = key
        self._deadline_s = deadline_s

    def _post(self, path: str, body: dict[str, Any]) -> bytes:
        request = urllib.request.Request(
            f"{self._url}/{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self._deadline_s) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            text = error.read(2000).decode(errors="replace")
            raise TierError(f"{self.name}: /{path}: status {error.code}: {text}") from error
        except (OSError, http.client.HTTPException) as error:
            raise TierError(
                f"{self.name}: /{path}: no answer within {self._deadline_s:g} s: {error!r}"
            ) from error

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Once per server process."""
        self._post("init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        """Open an update."""
        self._post("start_weight_update", {})

    def update_weights(self, update_info: Any) -> None:
        """Have the worker read the file."""
        self._post("update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Install, label with the version, and drop what was cached under the old weights."""
        self._post("finish_weight_update", {"weight_version": weight_version})
        self._reset_prefix_cache()

    def _reset_prefix_cache(self) -> None:
        """Ask until the server says that it did: it cannot while a request holds blocks."""
        deadline = time.monotonic() + self._deadline_s
        while json.loads(self._post("reset_prefix_cache", {})) != {"success": True}:
            if time.monotonic() > deadline:
                raise TierError(
                    f"{self.name}: its prefix cache outlives a sync: a request still holds blocks "
                    f"of it after {self._deadline_s:g} s; see its log"
                )
            time.sleep(_RESET_POLL_S)


class FanOutClient:
    """The control plane of several servers as one: each call goes to all and waits for all.

    A server that does not answer or refuses gets no further call and is told of in ``lost``; the
    others go on.
    """

    def __init__(self, clients: Sequence[KeyedClient]) -> None:
        self._clients = list(clients)
        self.lost: dict[str, str] = {}
        """Reasons by the names of servers that failed."""

    @property
    def names(self) -> tuple[str, ...]:
        """The servers that took every call so far."""
        return tuple(client.name for client in self._clients)

    def _each(self, call: Callable[[KeyedClient], None]) -> None:
        if not self._clients:
            return
        with ThreadPoolExecutor(len(self._clients)) as pool:
            reasons = list(pool.map(lambda client: _why_lost(call, client), self._clients))
        for client, reason in zip(tuple(self._clients), reasons, strict=True):
            if reason:
                self.lost[client.name] = reason
                self._clients.remove(client)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Once per server process."""
        self._each(lambda client: client.init_weight_transfer_engine(init_info))

    def start_weight_update(self) -> None:
        """Open an update."""
        self._each(lambda client: client.start_weight_update())

    def update_weights(self, update_info: Any) -> None:
        """Have the workers read the file; ``{server}`` in the report's path is each one's name."""
        self._each(
            lambda client: client.update_weights(
                {**update_info, "report": update_info["report"].format(server=client.name)}
            )
        )

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Install, label with the version, and drop what was cached under the old weights."""
        self._each(lambda client: client.finish_weight_update(weight_version))


def _why_lost(call: Callable[[KeyedClient], None], client: KeyedClient) -> str:
    """Make the call; empty, or the reason when the server did not take it."""
    try:
        call(client)
    except TierError as error:
        return str(error)
    return ""


@dataclass
class SharedMemoryTrainerInfo(TrainerInitInfo):
    """The folder that weights go through, readable by this user alone."""

    backend: ClassVar[str] = BACKEND
    folder: str


class SharedMemoryTrainerEngine(TrainerWeightTransferEngine[SharedMemoryTrainerInfo]):
    """vLLM's trainer interface over a file in shared memory; world rank 0 sends."""

    init_info_cls = SharedMemoryTrainerInfo

    def __init__(
        self, *, client: FanOutClient, source: WeightSource, is_sender: bool, folder: Path
    ) -> None:
        super().__init__(client=client, source=source, is_sender=is_sender)
        self._folder = folder
        self._fan_out = client
        self.version = 0
        """Label of the next weights sent."""
        self.report: SyncReport | None = None
        """What the last sync moved; None on ranks that do not send."""

    @classmethod
    def trainer_init(
        cls,
        init_info: SharedMemoryTrainerInfo,
        *,
        client: VLLMWeightSyncClient,
        source: WeightSource | None = None,
    ) -> Self:
        """Hand-shake with the servers on the sending rank."""
        assert isinstance(client, FanOutClient), "reports are named after the servers"
        assert source is not None, "the shared-memory engine sends whole weights"
        folder = Path(init_info.folder)
        if init_info.is_sender:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            client.init_weight_transfer_engine({"folder": str(folder)})
        return cls(client=client, source=source, is_sender=init_info.is_sender, folder=folder)

    @property
    def lost(self) -> dict[str, str]:
        """Reasons by the names of servers that did not take a sync; they get no further one."""
        return self._fan_out.lost

    def send_weights(self) -> None:
        """Write the file, have every server install it, compare reports, remove the file.

        A collective of all ranks through the source. Raises SyncError naming server and tensor.
        """
        assert self.source is not None, "given at the start"
        start = time.monotonic()
        if not self.is_sender:
            for _ in self.source:
                pass
            return
        tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in self.source}
        sent = {name: TensorReport(tensor_checksum(tensor)) for name, tensor in tensors.items()}
        path = self._folder / f"version_{self.version:08d}.safetensors"
        partial = path.with_name(path.name + ".partial")
        save_file(tensors, partial)
        partial.rename(path)
        try:
            self._install(path, sent)
            num_bytes = path.stat().st_size
        finally:
            path.unlink(missing_ok=True)
        seconds = time.monotonic() - start
        self.report = SyncReport(self.version, len(tensors), num_bytes, seconds)

    def _install(self, path: Path, sent: dict[str, TensorReport]) -> None:
        template = f"{path.stem}.{{server}}.report.json"
        self.client.start_weight_update()
        self.client.update_weights({"path": str(path), "report": str(path.with_name(template))})
        self.client.finish_weight_update(str(self.version))
        for server in self._fan_out.names:
            report = path.with_name(template.format(server=server))
            try:
                compare_reports(sent, read_report(report), server=server)
            finally:
                report.unlink(missing_ok=True)
