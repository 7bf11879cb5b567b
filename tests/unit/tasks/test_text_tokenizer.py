"""Texts, bytes and places of tokens, against the tokenizers library itself."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from e3mega.errors import E3Error
from e3mega.tasks.countdown.prompts import words
from e3mega.tasks.own.tokenizer import own_vocabulary, write_own_tokenizer
from e3mega.tasks.text_tokenizer import TextTokenizer
from tests.text_tokenizers import write_byte_level


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_level(tmp_path_factory.mktemp("byte_level"))


TEXTS = st.text(max_size=60) | st.sampled_from(["</think> \\boxed{7}<|im_end|>", "漢字 π\n\n≤"])


@given(text=TEXTS)
def test_a_text_comes_back_and_places_count_its_bytes(folder: Path, text: str) -> None:
    tokenizer = TextTokenizer(folder)
    ids = tokenizer.ids(text)
    assert tokenizer.text(ids) == text
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for count, end in enumerate(tokenizer.ends(ids), start=1):
        whole = library.decode(list(ids[:count]), skip_special_tokens=False)
        assert tokenizer.text(ids[:count]) == whole
        assert end == len(tokenizer.data(ids[:count]))


@given(ids=st.lists(st.integers(0, 450), max_size=20))
def test_any_ids_read_as_some_text(folder: Path, ids: list[int]) -> None:
    assert isinstance(TextTokenizer(folder).text(ids), str)


def test_the_end_is_the_generations_if_it_says_one(folder: Path, tmp_path: Path) -> None:
    assert TextTokenizer(folder).end_token_ids == (2,)
    other = write_byte_level(tmp_path)
    (other / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
    assert TextTokenizer(other).end_token_ids == (2, 0)


def test_a_user_turn_ends_where_the_assistant_begins(folder: Path) -> None:
    turn = TextTokenizer(folder).user_turn("2 + 2?")
    assert turn == "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_cannot_reach_outside_its_sandbox(tmp_path: Path) -> None:
    write_byte_level(tmp_path)
    hostile = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    (tmp_path / "chat_template.jinja").write_text(hostile, encoding="utf-8")
    with pytest.raises(E3Error, match="refuses"):
        TextTokenizer(tmp_path).user_turn("x")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chat_template": "{% for x in %}"}, "its chat template cannot be read: Expected"),
        ({"chat_template": "{% for i in range(10**9) %}{% endfor %}"}, "refuses the prompt: Range"),
        ({"eos_token": ["<|im_end|>"]}, "eos_token is missing or unknown"),
        (None, "eos_token is missing or unknown"),
    ],
)
def test_a_folder_that_lacks_something_says_so(
    changes: dict[str, object] | None, words: str, tmp_path: Path
) -> None:
    folder = write_byte_level(tmp_path)
    config = folder / "tokenizer_config.json"
    if changes is None:
        config.unlink()
    else:
        config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    tokenizer = TextTokenizer(folder)
    with pytest.raises(E3Error, match=words):
        assert tokenizer.end_token_ids
        tokenizer.user_turn("2 + 2?")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(E3Error, match=r"tokenizer\.json is no tokenizer: EOF"):
        TextTokenizer(folder)


def test_the_own_tokenizer_writes_its_language_one_token_a_word(tmp_path: Path) -> None:
    write_own_tokenizer(words(), tmp_path)
    tokenizer = TextTokenizer(tmp_path)
    text = "\n<think>\nTry: (13 + 5) * 7\n13 + 5 = 18\n\nCheck: 126 = 7 no\n</think>"
    ids = tokenizer.ids(text)
    assert tokenizer.text(ids) == text
    assert 2 not in ids, "no word of the language is unknown"
    assert max(ids) < len(own_vocabulary(words()))
    assert tokenizer.end_token_ids == (1,)
    assert len(tokenizer.ids("126")) == 3
