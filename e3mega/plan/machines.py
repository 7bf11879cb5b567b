"""The device table: peaks of the devices that jobs compute on.

Peaks are the manufacturers' (dense, without sparsity). Of a CPU the row is one core: what torch's
matrix products reach on a core with AVX2 or AVX-512, and its share of the memory's bandwidth.
"""

from dataclasses import dataclass

from e3mega.spec.schema.estimates import EstimateOptions, Gpu
from e3mega.spec.schema.layout import Device

GB = 10**9


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device. Example: ``device_row(Device.GPU, EstimateOptions()).name == "h100"``."""

    name: str
    peak_flops: float
    """Operations a second in the precision that it trains in."""
    memory_bytes: int
    """Memory of the device; 0 where it is not known and not checked."""
    memory_bytes_per_s: float
    node_link_bytes_per_s: float
    """To another device of the same machine, one direction."""
    network_bytes_per_s: float
    """To a device of another machine, one direction."""
    decode_step_s: float
    """Fixed seconds of one decoding step of a server: launching kernels, scheduling, sampling."""
    sync_s: float
    """Fixed seconds of one weight sync: pausing, checking, resuming."""


_CPU = DeviceRow("cpu core", 50e9, 0, 10 * GB, 5 * GB, 1 * GB, 0.02, 0.15)

_GPUS = {
    Gpu.A100: DeviceRow("a100", 312e12, 80 * GB, 2039 * GB, 300 * GB, 25 * GB, 0.008, 0.5),
    Gpu.H100: DeviceRow("h100", 989e12, 80 * GB, 3350 * GB, 450 * GB, 50 * GB, 0.006, 0.5),
    Gpu.H200: DeviceRow("h200", 989e12, 141 * GB, 4800 * GB, 450 * GB, 50 * GB, 0.006, 0.5),
    Gpu.B200: DeviceRow("b200", 2250e12, 180 * GB, 8000 * GB, 900 * GB, 50 * GB, 0.005, 0.5),
}


def device_row(device: Device, estimates: EstimateOptions) -> DeviceRow:
    """The row of what a job's layout names."""
    return _CPU if device is Device.CPU else _GPUS[estimates.gpu]


def usable_bytes(row: DeviceRow, estimates: EstimateOptions) -> int:
    """Memory of a device that jobs may fill; 0 where it is not known."""
    return int(row.memory_bytes * (1 - estimates.reserved_frac))
