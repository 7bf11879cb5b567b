"""A value for vLLM or nemo-run is held against the signature that the package really has."""

import pytest

from e3mega.metrics import Json
from e3mega.spec.signatures.tables import (
    Parameter,
    misfit,
    nemo_run_classes,
    vllm_server_arguments,
)


@pytest.mark.parametrize(
    ("kinds", "value", "need"),
    [
        (("integer",), 2, ""),
        (("integer",), True, "a whole number"),
        (("integer",), "2", "a whole number"),
        (("number",), 2, ""),
        (("boolean",), "yes", "true or false"),
        (("flag",), False, "true"),
        (("list", "null"), None, ""),
        (("list", "null"), "a", "a list or null"),
        (("object",), "x", "what e3mega makes itself"),
    ],
)
def test_a_value_fits_its_kinds(kinds: tuple[str, ...], value: Json, need: str) -> None:
    assert misfit(Parameter(kinds), value) == need


def test_choices_bind_a_value_and_the_items_of_a_list() -> None:
    parameter = Parameter(("list", "string"), choices=("low", "high"))
    assert misfit(parameter, "low") == misfit(parameter, ["high", "low"]) == ""
    assert misfit(parameter, ["low", "lo"]) == "one of low, high"


def test_the_tables_know_what_runs_rely_on() -> None:
    assert vllm_server_arguments()["max_model_len"].kinds == ("integer", "string")
    assert vllm_server_arguments()["enforce_eager"].kinds == ("boolean",)
    slurm = nemo_run_classes()["SlurmExecutor"]
    assert slurm["account"].is_required and not slurm["partition"].is_required
    assert "object" in slurm["tunnel"].kinds
    assert "identity" in nemo_run_classes()["SSHTunnel"]
