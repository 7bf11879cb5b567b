"""A tokenizer of whole words, as Hugging Face files."""

import json
from collections.abc import Sequence
from pathlib import Path


class WordTokenizer:
    """Words parted by white space, one token each.

    The first three words are the padding, the end and the unknown word, in this order. Example:
    ``WordTokenizer(("<pad>", "<end>", "<unk>", "7")).ids("7 7") == (3, 3)``.
    """

    def __init__(self, words: Sequence[str]) -> None:
        assert len(set(words)) == len(words), "a word stands twice in the vocabulary"
        self.words = tuple(words)
        self.id_of = {word: index for index, word in enumerate(words)}

    def ids(self, text: str) -> tuple[int, ...]:
        """Token ids of a text; a word that is not in the vocabulary becomes the unknown word."""
        return tuple(self.id_of.get(word, 2) for word in text.split())

    def text(self, token_ids: Sequence[int]) -> str:
        """The words of the tokens with one space between; ids beyond the vocabulary show as such.

        Embeddings may be padded to more rows than there are words, and a model may sample those.
        """
        words, size = self.words, len(self.words)
        return " ".join([words[i] if 0 <= i < size else f"<{i}>" for i in token_ids])

    def write(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, as transformers and vLLM load them."""
        pad, end, unknown = self.words[:3]
        special = [
            {
                "id": index,
                "content": self.words[index],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index in range(3)
        ]
        tokenizer = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": special,
            "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": self.id_of, "unk_token": unknown},
        }
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": pad,
            "eos_token": end,
            "unk_token": unknown,
            "clean_up_tokenization_spaces": False,
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (("tokenizer.json", tokenizer), ("tokenizer_config.json", config)):
            (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
