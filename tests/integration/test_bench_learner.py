"""The learner's bench as a person calls it: every loop trains, and the table has its numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "bench_learner.py"
SIZES = ("--tokens", "1024", "--bin", "256", "--steps", "1", "--repeats", "1")


@pytest.mark.slow
def test_every_loop_is_timed_in_one_run(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.json"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(TOOL), *SIZES, "--json", str(numbers)],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(numbers.read_text())
    assert list(report) == [
        "e3mega learner",
        "Megatron-Core, bare",
        *(f"transformers, {way}" for way in ("packed", "padded", "unpadded")),
        "matrix products alone",
    ]
    for name, own in report.items():
        assert 0 < own["slowest"] <= own["tokens_per_s"] <= own["fastest"], name
        assert own["peak_bytes"] > 0, name
        assert name in done.stdout
