"""The one place that catches what the code of others raises."""

import pytest

from e3mega.errors import JobError, SpecError, boundary


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
