"""The process by which the doctor has tasks add numbers together, over gloo or NCCL.

``python -m e3mega.mcore.reach HOST PORT RANK TASKS cpu|gpu DEADLINE_S``; started by
``e3mega.run.doctor`` on every task. Its last line says what it took, or why it failed.
"""

import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from e3mega.device import collective_backend, torch_device_type
from e3mega.errors import E3Error, JobError, boundary

_NUM_VALUES = 1 << 20


def add_together(address: str, rank: int, tasks: int, device: str, deadline_s: float) -> str:
    """What the sum over all tasks took, in words; raises JobError with the backend's reason."""
    device_type = torch_device_type(device == "gpu")
    backend = collective_backend(device_type)
    with boundary(JobError, backend):
        dist.init_process_group(
            backend,
            init_method=f"tcp://{address}",
            rank=rank,
            world_size=tasks,
            timeout=timedelta(seconds=deadline_s),
        )
        values = torch.full((_NUM_VALUES,), float(rank + 1), device=device_type)
        start = time.monotonic()
        dist.all_reduce(values)
        total = float(values[-1])
        seconds = time.monotonic() - start
        dist.destroy_process_group()
    if total != tasks * (tasks + 1) / 2:
        raise JobError(f"{backend}: the sum of {tasks} tasks is {total:g}")
    return f"{tasks} tasks added 4 MiB over {backend} in {seconds:.3f} s"


def main(argv: list[str]) -> int:
    """Add together with the other tasks; the exit status."""
    host, port, rank, tasks, device, deadline_s = argv
    try:
        print(add_together(f"{host}:{port}", int(rank), int(tasks), device, float(deadline_s)))
    except E3Error as error:
        print(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
