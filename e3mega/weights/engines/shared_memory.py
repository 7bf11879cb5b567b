"""The sending end of the shared-memory engine: vLLM's trainer interface over a file in memory.

World rank 0 of the learner writes the HF-named tensors to a safetensors file under /dev/shm, has
every server install it, and compares names and checksums as sent with those as installed.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
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

from e3mega.errors import SyncError
from e3mega.weights.checksum import tensor_checksum
from e3mega.weights.engines.messages import BACKEND, TensorReport, compare_reports, read_report


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

    def _post(self, path: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(
            f"{self._url}/{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self._deadline_s) as response:
                response.read()
        except urllib.error.HTTPError as error:
            text = error.read(2000).decode(errors="replace")
            raise SyncError(f"{self.name}: /{path}: status {error.code}: {text}") from error
        except (urllib.error.URLError, TimeoutError) as error:
            raise SyncError(
                f"{self.name}: /{path}: no answer within {self._deadline_s:g} s: {error}"
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
        self._post("reset_prefix_cache", {})


@dataclass
class SharedMemoryTrainerInfo(TrainerInitInfo):
    """Where the file goes and which servers read it."""

    backend: ClassVar[str] = BACKEND
    folder: str


class SharedMemoryTrainerEngine(TrainerWeightTransferEngine[SharedMemoryTrainerInfo]):
    """vLLM's trainer interface; built on every rank, sends from world rank 0."""

    init_info_cls = SharedMemoryTrainerInfo

    def __init__(
        self,
        *,
        client: VLLMWeightSyncClient,
        source: WeightSource | None,
        is_sender: bool,
        folder: Path,
    ) -> None:
        super().__init__(client=client, source=source, is_sender=is_sender)
        self._folder = folder
        self.version = 0

    @classmethod
    def trainer_init(
        cls,
        init_info: SharedMemoryTrainerInfo,
        *,
        client: VLLMWeightSyncClient,
        source: WeightSource | None = None,
    ) -> Self:
        """Hand-shake with the server on the sending rank."""
        folder = Path(init_info.folder)
        if init_info.is_sender:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            client.init_weight_transfer_engine({"folder": str(folder)})
        return cls(client=client, source=source, is_sender=init_info.is_sender, folder=folder)

    def send_weights(self) -> None:
        """Write the file, have the server install it, compare reports, remove the file.

        A collective of all ranks through the source. Raises SyncError on the sending rank.
        """
        assert self.source is not None, "the shared-memory engine sends whole weights"
        write_and_install(
            self.source,
            [self.client] if self.is_sender else [],
            self._folder,
            version=self.version,
        )


def write_and_install(
    source: Iterable[tuple[str, Any]], clients: list[Any], folder: Path, *, version: int
) -> SyncReport | None:
    """One sync to all servers; None on ranks that do not send.

    ``clients`` is empty on every rank but the sender's.
    """
    start = time.monotonic()
    if not clients:
        for _ in source:
            pass
        return None
    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in source}
    sent = {name: TensorReport(tensor_checksum(tensor)) for name, tensor in tensors.items()}
    path = folder / f"version_{version:08d}.safetensors"
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial)
    partial.rename(path)
    try:
        with ThreadPoolExecutor(len(clients)) as pool:
            list(pool.map(lambda client: _install(client, path, sent, version), clients))
        num_bytes = path.stat().st_size
    finally:
        path.unlink(missing_ok=True)
    return SyncReport(version, len(tensors), num_bytes, time.monotonic() - start)


def _install(client: Any, path: Path, sent: dict[str, TensorReport], version: int) -> None:
    report = path.with_name(f"{path.stem}.{client.name}.report.json")
    client.start_weight_update()
    client.update_weights({"path": str(path), "report": str(report)})
    client.finish_weight_update(str(version))
    try:
        compare_reports(sent, read_report(report), server=client.name)
    finally:
        report.unlink(missing_ok=True)


class SharedMemorySender:
    """Sends the learner's weights to every server of the machine; lives on all ranks."""

    def __init__(
        self, source: WeightSource, clients: list[KeyedClient], folder: Path, *, is_sender: bool
    ) -> None:
        self._clients = clients if is_sender else []
        self._source = source
        self._folder = folder
        if is_sender:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for client in self._clients:
                client.init_weight_transfer_engine({"folder": str(folder)})

    def send_weights(self, version: int) -> SyncReport | None:
        """One sync; a collective through the source. The report is None on non-senders."""
        return write_and_install(self._source, self._clients, self._folder, version=version)
