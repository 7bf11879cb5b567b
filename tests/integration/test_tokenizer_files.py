"""The tokenizer's files as transformers loads them."""

from pathlib import Path

from transformers import AutoTokenizer

from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.task import CountdownTask


def test_transformers_loads_the_tokenizer(tmp_path: Path) -> None:
    task = CountdownTask(CountdownOptions(kind="countdown"), 1)
    task.write_tokenizer(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for index in range(20):
        ids = task.trace(index).token_ids
        assert tuple(loaded(task.text(ids))["input_ids"]) == ids
        assert loaded.decode(ids) == task.text(ids)
    assert (loaded.eos_token_id, loaded.pad_token_id) == (task.end_token_ids[0], 0)
