"""The one place that catches what the code of others raises."""

import pytest

from e3mega.errors import JobError, SpecError, boundary, nearest


def test_what_others_raise_becomes_one_error_of_ours_with_its_words() -> None:
    def raised(error: Exception) -> str:
        with pytest.raises(JobError) as caught, boundary(JobError, "the scheduler took no job"):
            raise error
        assert caught.value.__cause__ is error
        return str(caught.value)

    assert raised(KeyError("x")) == "the scheduler took no job: 'x'"
    assert raised(RuntimeError("full")) == "the scheduler took no job: full"


def test_errors_of_ours_and_of_memory_pass_as_they_are() -> None:
    for error in (SpecError(()), MemoryError()):
        with pytest.raises(type(error)), boundary(JobError, "not this"):
            raise error


def test_words_may_be_chosen() -> None:
    with (
        pytest.raises(JobError, match=r"^it failed: KeyError$"),
        boundary(JobError, "it failed", words=lambda error: type(error).__name__),
    ):
        raise KeyError("x")


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("grop", ("loss/grpo", "task/countdown-3"), "loss/grpo"),
        ("task/grpo", ("loss/grpo", "task/countdown-3"), "loss/grpo"),
        ("GRPO", ("grpo", "gspo"), "grpo"),
        ("mean", ("group_mean", "shifted_mean"), "group_mean"),
        ("qwen3-17b", ("model/qwen3-1.7b", "model/qwen3-8b"), "model/qwen3-1.7b"),
        ("steps", ("tokens", "patience"), None),
        ("x", (), None),
    ],
)
def test_a_misspelt_word_means_the_likest_name(
    word: str, known: tuple[str, ...], meant: str | None
) -> None:
    assert nearest(word, known) == meant
