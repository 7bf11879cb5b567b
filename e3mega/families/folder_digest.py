"""Names the contents of a folder of Hugging Face weights by one digest."""

import hashlib
from pathlib import Path


def folder_digest(folder: Path) -> str:
    """SHA-256 of config.json and all safetensors files: of their names, then their own digests.

    Tokenizers and notes beside the weights do not change it. Raises OSError when a file cannot be
    read.
    """
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("config.json"), *folder.glob("*.safetensors*")]):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.name}:{content}\n".encode())
    return digest.hexdigest()
