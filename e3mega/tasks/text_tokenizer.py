"""The tokenizer of a model's folder: text to token ids and back, without transformers."""

import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path

from tokenizers import Tokenizer

from e3mega.errors import E3Error, boundary
from e3mega.tasks.chat_template import ChatTemplate


class TextTokenizer:
    """Reads ``tokenizer.json`` and its neighbours. Example: ``TextTokenizer(path).ids("1 + 2")``.

    Every token is a fixed sequence of bytes, so that a place in the text tells the number of
    tokens before it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        file = folder / "tokenizer.json"
        if not file.exists():
            raise E3Error(f"{folder} holds no tokenizer.json; name a model with a fast tokenizer")
        with boundary(E3Error, f"{file} is no tokenizer"):
            self._tokenizer = Tokenizer.from_file(str(file))
        content = json.loads(file.read_text(encoding="utf-8"))
        self._is_byte_level = '"ByteLevel"' in json.dumps(content["decoder"])
        self._added = {each["id"]: each["content"] for each in content["added_tokens"]}
        self._piece = lru_cache(maxsize=None)(self._piece_of)

    @cached_property
    def end_token_ids(self) -> tuple[int, ...]:
        """Tokens that end a completion: the generation's configuration, else the tokenizer's."""
        generation = self._folder / "generation_config.json"
        if generation.exists():
            ends = json.loads(generation.read_text(encoding="utf-8")).get("eos_token_id")
            if ends is not None:
                return tuple(ends) if isinstance(ends, list) else (ends,)
        config = self._folder / "tokenizer_config.json"
        end = json.loads(config.read_text(encoding="utf-8") if config.exists() else "{}").get(
            "eos_token"
        )
        word = end["content"] if isinstance(end, dict) else end
        token = self._tokenizer.token_to_id(word) if isinstance(word, str) else None
        if token is None:
            raise E3Error(f"{self._folder}/tokenizer_config.json: eos_token is missing or unknown")
        return (token,)

    @cached_property
    def _chat(self) -> ChatTemplate:
        return ChatTemplate(self._folder)

    def ids(self, text: str) -> tuple[int, ...]:
        """Token ids of a text; special tokens written out in it become themselves."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def user_turn(self, text: str) -> str:
        """The text as a user's turn in the model's chat template, up to the assistant's."""
        return self._chat.render([{"role": "user", "content": text}])

    def text(self, token_ids: Sequence[int]) -> str:
        """The tokens as text; bytes that are no UTF-8 show as the replacement character."""
        return self.data(token_ids).decode("utf-8", errors="replace")

    def data(self, token_ids: Sequence[int]) -> bytes:
        """The bytes that the tokens stand for."""
        return b"".join(map(self._piece, token_ids))

    def ends(self, token_ids: Sequence[int]) -> list[int]:
        """Bytes of the text up to and with each token."""
        return list(accumulate(len(self._piece(token)) for token in token_ids))

    def _piece_of(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            # Embeddings may be padded to more rows than the tokenizer has tokens.
            return f"<{token_id}>".encode()
        if self._is_byte_level:
            return bytes(_BYTE_OF[character] for character in token)
        return self._tokenizer.decode([token_id], skip_special_tokens=False).encode()


def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in byte-level vocabularies, as GPT-2 chose them:
    printable bytes are themselves, the others follow from 256 on in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


_BYTE_OF = _byte_alphabet()
