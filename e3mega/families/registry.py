"""Which form, mapping table and configuration belong to a model family."""

from e3mega.families import decoder
from e3mega.families.form import FamilyForm
from e3mega.families.geometry import Family, ModelOptions
from e3mega.families.llama import LLAMA
from e3mega.families.mapping import Weight
from e3mega.families.qwen2 import QWEN2
from e3mega.families.qwen3 import QWEN3, QWEN3_MOE

FORMS: dict[Family, FamilyForm] = {
    Family.QWEN3: QWEN3,
    Family.QWEN3_MOE: QWEN3_MOE,
    Family.QWEN2: QWEN2,
    Family.LLAMA: LLAMA,
}


def form_of(model: ModelOptions) -> FamilyForm:
    """What makes the model's family."""
    return FORMS[model.family]


def weights(model: ModelOptions) -> tuple[Weight, ...]:
    """The mapping table of the model: every parameter, in the order of the HF model."""
    return decoder.decoder_weights(model, form_of(model))


def layer_weights(model: ModelOptions, layer: int) -> tuple[Weight, ...]:
    """The part of the mapping table that is about one layer."""
    return decoder.layer_weights(model, form_of(model), layer)


def end_weights(model: ModelOptions) -> tuple[Weight, ...]:
    """The part of the mapping table that is about no layer: embedding, final norm, LM head."""
    return decoder.end_weights(model)
