"""Writes a small tokenizer for a task's language, for models that start from random weights."""

import json
import string
from collections.abc import Sequence
from pathlib import Path

PAD, END, UNKNOWN = "<pad>", "<end>", "<unk>"
# Digits and signs are one token each, so that numbers of any length are written with ten tokens.
_PATTERN = r"</?[a-z]+>|\\[a-z]+|[A-Za-z]+|\n\n|[\s\S]"


def own_vocabulary(words: Sequence[str]) -> tuple[str, ...]:
    """The words of a language behind the special ones and single characters.

    Example: ``own_vocabulary(("Check",))[-1] == "Check"``.
    """
    characters = [*string.digits, *" \n+-*/=()<>{}[].,:;?!|\\", *string.ascii_letters]
    return tuple(dict.fromkeys((PAD, END, UNKNOWN, "\n\n", *characters, *words)))


def write_own_tokenizer(words: Sequence[str], folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, as transformers and vLLM load them."""
    vocabulary = {word: index for index, word in enumerate(own_vocabulary(words))}
    special = [
        {
            "id": index,
            "content": word,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, word in enumerate((PAD, END, UNKNOWN))
    ]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": _PATTERN},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN},
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "eos_token": END,
        "unk_token": UNKNOWN,
        "clean_up_tokenization_spaces": False,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("tokenizer.json", tokenizer), ("tokenizer_config.json", config)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
