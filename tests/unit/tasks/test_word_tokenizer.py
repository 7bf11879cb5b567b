"""The word-level tokenizer and its Hugging Face files."""

from pathlib import Path

from tokenizers import Tokenizer

from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.task import CountdownTask
from e3mega.tasks.sizes import vocabulary_size
from e3mega.tasks.word_tokenizer import WordTokenizer

OPTIONS = CountdownOptions(kind="countdown")


def test_texts_come_back_through_the_files(tmp_path: Path) -> None:
    task = CountdownTask(OPTIONS, 1)
    task.write_tokenizer(tmp_path / "model")
    loaded = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    assert loaded.get_vocab_size() == vocabulary_size(OPTIONS) <= 128
    for index in range(50):
        trace = task.trace(index)
        for ids in (trace.prompt.token_ids, trace.token_ids):
            text = task.text(ids)
            assert tuple(loaded.encode(text).ids) == ids
            assert loaded.decode(list(ids), skip_special_tokens=False) == text
    assert loaded.token_to_id("<end>") == task.end_token_ids[0]
    assert loaded.encode("numbers banana").ids[1] == loaded.token_to_id("<unk>")


def test_ids_beyond_the_vocabulary_are_shown_as_such() -> None:
    tokenizer = WordTokenizer(("<pad>", "<end>", "<unk>", "7"))
    assert tokenizer.text((3, 9, 1)) == "7 <9> <end>"
    assert tokenizer.ids("7 8") == (3, 2)
