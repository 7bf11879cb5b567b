"""The committed tables of signatures are what the installed packages have."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "e3mega" / "spec" / "signatures"


@pytest.mark.parametrize("name", ["vllm_server", "nemo_run"])
def test_a_table_is_what_is_installed(name: str) -> None:
    if name == "nemo_run" and find_spec("nemo_run") is None:
        pytest.skip("nemo-run is in the extra `cluster`, which is not installed")
    done = subprocess.run(
        [sys.executable, "tools/write_signatures.py", "--print", name],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    committed = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == committed, (
        "run .venv/bin/python tools/write_signatures.py and review the diff"
    )
