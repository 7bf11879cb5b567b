"""Other projects' packages, each installed into an ignored folder of its own."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
UV = CHECKOUT / ".uv" / "bin" / "uv"


def installed(name: str, requirements: list[str]) -> Path:
    """A folder with these packages and none of what they ask for, made once; for sys.path.

    Raises CalledProcessError with the installer's words when the package index does not have them.
    """
    folder = CHECKOUT / ".outside" / name
    if not (folder / ".complete").exists():
        command = [UV, "pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
        subprocess.run([*command, "--target", folder, *requirements], check=True, timeout=300)
        (folder / ".complete").touch()
    return folder
