"""The receiving end of the shared-memory engine, inside vLLM's worker."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from e3mega.vllm_plugin.die_with_parent import die_with_parent
from e3mega.vllm_plugin.installed import installed_report, repack_tied_heads
from e3mega.weights.engines.messages import write_report

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.config.weight_transfer import WeightTransferConfig


@dataclass
class SharedMemoryInitInfo(WeightTransferInitInfo):
    """The folder that weights come from; nothing outside it is read."""

    folder: str


@dataclass
class SharedMemoryUpdateInfo(WeightTransferUpdateInfo):
    """The file to install and where to report what is installed then."""

    path: str
    report: str


class SharedMemoryReceiver(WeightTransferEngine[SharedMemoryInitInfo, SharedMemoryUpdateInfo]):
    """Loads a safetensors file into the model and reports every tensor as installed."""

    init_info_cls = SharedMemoryInitInfo
    update_info_cls = SharedMemoryUpdateInfo

    def __init__(
        self,
        config: "WeightTransferConfig",
        vllm_config: "VllmConfig",
        device: torch.device,
        model: torch.nn.Module,
    ) -> None:
        super().__init__(config, vllm_config, device, model)
        die_with_parent()
        self._folder: Path | None = None
        self._tensors: dict[str, torch.Tensor] = {}
        self._report: Path | None = None

    def init_transfer_engine(self, init_info: SharedMemoryInitInfo) -> None:
        """Remember the only folder that files may come from."""
        self._folder = Path(init_info.folder).resolve()

    def start_weight_update(self) -> None:
        """Layers give back their loadable form."""
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: SharedMemoryUpdateInfo) -> None:
        """Read the file and load it by vLLM's own loaders, which fuse and shard."""
        path, report = Path(update_info.path).resolve(), Path(update_info.report).resolve()
        if self._folder is None or {path.parent, report.parent} != {self._folder}:
            raise ValueError(f"{path} does not lie in the folder of the start, {self._folder}")
        self._tensors, self._report = load_file(path), report
        # vLLM's models have it, torch's modules do not.
        model: Any = self.model
        model.load_weights(iter(self._tensors.items()))

    def finish_weight_update(self) -> None:
        """Pack again what is packed, and report every tensor as it is installed now."""
        self.pack()
        if self._report is not None:
            write_report(self._report, installed_report(self.model, self._tensors))
        self._tensors, self._report = {}, None

    def pack(self) -> None:
        """Bring the layers back into the form that they compute with."""
        finalize_layerwise_reload(self.model, self.model_config)
        repack_tied_heads(self.model)

    def shutdown(self) -> None:
        """Nothing is held between updates."""
