"""A receiver that leaves part of a sync undone; vLLM loads it as a plugin beside e3mega's.

A file ``fault`` in the folder that weights come through holds the name of a ``Fault``; without it
the receiver does what e3mega's does.
"""

import os
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from e3mega.vllm_plugin.receiver import SharedMemoryReceiver, SharedMemoryUpdateInfo

BACKEND = "faulty_shared_memory"


class Fault(Enum):
    """What a server does wrong after its first sync."""

    STALE_HEAD = "stale_head"
    """Leaves the packed copy of the tied LM head as it was."""
    OLD_WEIGHTS = "old_weights"
    """Reports the weights that were sent, and serves those sent before."""


def register() -> None:
    """Called by vLLM in each of its processes, more than once in some."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, FaultyReceiver)


def refuse_fork() -> None:
    """A plugin with which no engine core comes up that was forked."""
    from vllm.v1.engine.core import EngineCore

    original = EngineCore.__init__

    def start(self: EngineCore, *args: Any, **options: Any) -> None:
        if os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "fork":
            raise RuntimeError("this engine core was forked")
        original(self, *args, **options)

    EngineCore.__init__ = start


def set_fault(folder: Path, fault: Fault | None) -> None:
    """Have the server whose weights come through this folder fail so."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "fault").write_text("" if fault is None else fault.value)


class FaultyReceiver(SharedMemoryReceiver):
    """e3mega's receiver, but for the fault of its folder."""

    _former: dict[str, torch.Tensor] | None = None
    _sent: dict[str, torch.Tensor] | None = None

    def init_transfer_engine(self, init_info: object) -> None:
        """A new run: nothing was sent before."""
        super().init_transfer_engine(init_info)  # pyright: ignore[reportArgumentType]
        self._former = self._sent = None

    def receive_weights(self, update_info: SharedMemoryUpdateInfo) -> None:
        """Remember what was sent this time and before."""
        super().receive_weights(update_info)
        self._former, self._sent = self._sent, self._tensors

    def finish_weight_update(self) -> None:
        """Report what was sent; then, with OLD_WEIGHTS, go back to what was sent before."""
        super().finish_weight_update()
        if self._fault is Fault.OLD_WEIGHTS and self._former is not None:
            self.start_weight_update()
            self.model.load_weights(iter(self._former.items()))  # pyright: ignore[reportCallIssue]
            self.pack()

    def pack(self) -> None:
        """Pack; with STALE_HEAD, put the head's former packed copy back."""
        heads = _packed_heads(self.model)
        super().pack()
        if self._fault is Fault.STALE_HEAD and self._former is not None:
            for module, packed in heads.items():
                module.cpu_linear = packed

    @property
    def _fault(self) -> Fault | None:
        path = self._folder / "fault" if self._folder is not None else None
        text = path.read_text() if path is not None and path.exists() else ""
        return Fault(text) if text else None


def _packed_heads(model: torch.nn.Module) -> dict[torch.nn.Module, object]:
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    return {
        module: module.cpu_linear
        for module in model.modules()
        if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear")
    }
