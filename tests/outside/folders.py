"""Other projects' packages, each installed into an ignored folder of its own."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
UV = CHECKOUT / ".uv" / "bin" / "uv"


class NotInstallableError(Exception):
    """The package index does not have these packages; says what the installer said."""


def installed(name: str, requirements: list[str]) -> Path:
    """A folder with these packages and none of what they ask for, made once; for sys.path.

    Raises NotInstallableError when the package index does not have them.
    """
    folder = CHECKOUT / ".outside" / name
    if not (folder / ".complete").exists():
        command = [str(UV), "pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
        command += ["--target", str(folder), *requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            raise NotInstallableError(f"{name}: {' '.join(done.stderr.split())[:400]}")
        (folder / ".complete").touch()
    return folder
