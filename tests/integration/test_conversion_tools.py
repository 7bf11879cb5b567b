"""The conversion tools as a person calls them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.family_cases import write_hf_family

TOOLS = Path(__file__).parents[2] / "tools"


def tool(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a tool with these arguments."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(TOOLS / name), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_a_folder_goes_to_megatron_and_is_described(tmp_path: Path) -> None:
    hf, checkpoint = tmp_path / "hf", tmp_path / "checkpoint"
    write_hf_family("qwen2-tied", hf)
    done = tool("convert_hf_to_megatron.py", hf, checkpoint, "--tp", 2, "--pp", 2)
    assert done.returncode == 0, done.stderr
    assert "for tp 2, pp 2, ep 1" in done.stdout
    assert "has no tokenizer; none goes along" in done.stdout
    again = tool("convert_hf_to_megatron.py", hf, checkpoint)
    assert again.returncode == 1
    assert "exists; choose another folder" in again.stderr
    described = tool("inspect_checkpoint.py", checkpoint, "--verify", "--tensors")
    assert described.returncode == 0, described.stderr
    for words in ("qwen2, 4 layers x 64 wide", "tp 2", "every checksum holds", "linear_qkv.bias"):
        assert words in described.stdout


@pytest.mark.slow
def test_both_directions_verify_tensors_and_logits(tmp_path: Path) -> None:
    hf, checkpoint, back = tmp_path / "hf", tmp_path / "checkpoint", tmp_path / "back"
    write_hf_family("qwen3-moe-some-dense", hf)
    for done in (
        tool("convert_hf_to_megatron.py", hf, checkpoint, "--ep", 2, "--verify"),
        tool("convert_megatron_to_hf.py", checkpoint, back, "--verify"),
    ):
        assert done.returncode == 0, done.stderr
        assert "76 tensors are equal, bit for bit" in done.stdout
        assert "logits of 72 tokens differ by at most" in done.stdout


def test_a_grid_that_does_not_divide_the_model_is_refused(tmp_path: Path) -> None:
    hf = tmp_path / "hf"
    write_hf_family("qwen3-tied", hf)
    done = tool("convert_hf_to_megatron.py", hf, tmp_path / "checkpoint", "--tp", 3)
    assert done.returncode == 1
    assert "--tp 3: need a divisor of" in done.stderr
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.slow
def test_the_bench_tells_speed_and_memory(tmp_path: Path) -> None:
    done = tool("bench_convert.py", "--bytes", 50_000_000, "--repeats", 1, "--folder", tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("copy", "import", "export"):
        assert part in done.stdout
    assert "x copy" in done.stdout
