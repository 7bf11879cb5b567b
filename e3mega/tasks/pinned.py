"""Files and folders of data by their checksum, so that a spec can hold them still."""

import hashlib
from pathlib import Path

from e3mega.errors import E3Error


def data_sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder: of its files' relative names and their own digests.

    Raises OSError when a file cannot be read.
    """
    if not path.is_dir():
        return _file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(path)}:{_file_sha256(file)}\n".encode())
    return digest.hexdigest()


def check_pin(key: str, path: str, sha256: str | None) -> None:
    """E3Error when the data that a key names are others than they were pinned to.

    What cannot be read is for its reader to say.
    """
    if sha256 is None or not Path(path).exists():
        return
    found = data_sha256(Path(path))
    if found != sha256:
        raise E3Error(
            f"{key} = {path}: its SHA-256 is {found}, the spec asks for {sha256}; fetch the data "
            "that were pinned, or pin these with e3mega pin"
        )


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
