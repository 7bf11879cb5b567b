"""Imports what a run imports, so that Python keeps its bytecode; part of the set-up.

An installer leaves sources alone. A run's processes would each compile what they import, the
whole of torch and vLLM, at once; and where ``PYTHONDONTWRITEBYTECODE`` is set, at every start.
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterator

import e3mega

OTHERS = (
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.gpu_worker",
    "vllm.model_executor.models.qwen3",
    "transformers.models.qwen3.modeling_qwen3",
    "hypothesis",
    "pytest",
)
"""What a run's processes or the tests load by name and no module of e3mega imports."""


def modules() -> Iterator[str]:
    """Every module of e3mega, then the others."""
    for found in pkgutil.walk_packages(e3mega.__path__, "e3mega."):
        yield found.name
    yield from OTHERS


def main() -> None:
    """Import each; one that this machine has no use for, e.g. without a GPU, is left."""
    sys.dont_write_bytecode = False
    for name in modules():
        try:
            importlib.import_module(name)
        except Exception as error:
            print(f"{name}: {error}")


if __name__ == "__main__":
    main()
