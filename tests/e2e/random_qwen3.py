"""Small random Qwen3 models, as transformers writes them."""

from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from e3mega.spec.task_file import named_task
from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.task import CountdownTask


def write_model(folder: Path, *, seed: int, end: int, **config: float) -> Path:
    """A model's folder without a tokenizer; ``end`` is the token that ends a completion."""
    torch.manual_seed(seed)
    made = Qwen3Config(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=end,
        **config,
    )
    Qwen3ForCausalLM(made).float().save_pretrained(folder)
    return folder


def write_countdown_model(folder: Path, *, seed: int) -> Path:
    """A model's folder with Countdown's tokenizer."""
    _, options = named_task("countdown-3")
    assert isinstance(options, CountdownOptions)
    task = CountdownTask(options, 1)
    write_model(folder, seed=seed, end=task.end_token_ids[0])
    task.write_tokenizer(folder)
    return folder
