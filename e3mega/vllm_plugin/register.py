"""vLLM calls ``register`` in each of its processes: the engine's two ends, and a leash."""

import multiprocessing

from e3mega.vllm_plugin.die_with_parent import die_with_parent
from e3mega.weights.engines.messages import BACKEND


def register() -> None:
    """Register the shared-memory engine for both sides; called more than once by vLLM."""
    from vllm.distributed.weight_transfer.factory import (
        WeightTransferEngineFactory,
        WeightTransferTrainerFactory,
    )

    if multiprocessing.parent_process() is not None:
        die_with_parent()
    if BACKEND in WeightTransferEngineFactory._registry:
        return
    WeightTransferEngineFactory.register_engine(
        BACKEND, "e3mega.vllm_plugin.receiver", "SharedMemoryReceiver"
    )
    WeightTransferTrainerFactory.register_engine(
        BACKEND, "e3mega.weights.engines.shared_memory", "SharedMemoryTrainerEngine"
    )
