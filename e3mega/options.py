"""Option types shared by several spec sections: the frozen model, token counts."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Options(BaseModel):
    """A frozen section of a spec: unknown keys are errors, attribute docstrings are its help."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, strict=True, defer_build=True
    )


def parse_token_count(value: object) -> object:
    """``"8k"`` is 8192 tokens; whole numbers pass; any other suffix is left for pydantic to refuse.

    Example: ``parse_token_count("2k") == 2048``.
    """
    if isinstance(value, str) and re.fullmatch(r"[0-9]+k", value):
        return int(value[:-1]) * 1024
    return value


_Kilo = Annotated[str, Field(pattern=r"^[0-9]+k$")]

TokenCount = Annotated[
    int, BeforeValidator(parse_token_count, json_schema_input_type=int | _Kilo), Field(gt=0)
]
"""A number of tokens; ``8k`` means 8192."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
"""A share between 0 and 1."""

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegativeFloat = Annotated[float, Field(ge=0.0)]
