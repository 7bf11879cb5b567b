"""Writes bytes, operations and seconds as a person reads them."""


def size_text(num_bytes: float) -> str:
    """Bytes with a unit. Example: ``size_text(1_572_864) == "1.5 MiB"``."""
    value, units = float(num_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def flops_text(flops: float) -> str:
    """Operations with a unit. Example: ``flops_text(6.9e10) == "69.0 G"``."""
    value, units = flops, ["", "k", "M", "G", "T", "P", "E"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.1f} {units[0]}"


def seconds_text(seconds: float) -> str:
    """Seconds with the unit that suits them. Example: ``seconds_text(5400) == "1.5 h"``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "h" and seconds >= length):
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s"


def count_text(count: float) -> str:
    """A large count, shortened. Example: ``count_text(12_500_000) == "12.5 M"``."""
    return f"{count:,.0f}" if count < 1e6 else flops_text(count)
