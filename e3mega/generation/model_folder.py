"""What must be known of a Hugging Face folder before servers start from it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e3mega.errors import E3Error


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model with weights on the disk. Example: ``ModelFolder(path, (1,), 512, "float32")``."""

    path: Path
    end_token_ids: tuple[int, ...]
    """Tokens that end a completion."""
    max_context_tokens: int
    """Longest sequence the model is made for, prompt included."""
    dtype: str
    """Number format of the weights, as the folder states it."""


def read_model_folder(path: Path) -> ModelFolder:
    """Read the configuration of a Hugging Face folder; a run's folder stands for its export.

    Raises E3Error naming the file and what it lacks.
    """
    export = path / "export" / "hf"
    folder = export if export.is_dir() else path
    config = _read_json(folder / "config.json")
    if not any(folder.glob("*.safetensors")):
        raise E3Error(f"{folder} holds no *.safetensors; name a folder with the model's weights")
    generation = folder / "generation_config.json"
    # Chat models end a turn with tokens that only the generation's configuration lists.
    ends = _read_json(generation).get("eos_token_id") if generation.exists() else None
    ends = config.get("eos_token_id") if ends is None else ends
    if ends is None:
        raise E3Error(
            f"{folder / 'config.json'}: eos_token_id is missing; without it no completion ends"
        )
    context = config.get("max_position_embeddings")
    if not isinstance(context, int):
        raise E3Error(
            f"{folder / 'config.json'}: max_position_embeddings is missing; state the longest "
            "sequence that the model is made for"
        )
    # transformers wrote torch_dtype before its version 5; neither means float32 there.
    dtype = config.get("dtype") or config.get("torch_dtype") or "float32"
    return ModelFolder(folder, tuple(ends) if isinstance(ends, list) else (ends,), context, dtype)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise E3Error(
            f"{path.parent} holds no {path.name}; name a folder in Hugging Face format, or a run "
            "that has finished"
        ) from error
    except json.JSONDecodeError as error:
        raise E3Error(f"{path}: not JSON: {error}") from error
