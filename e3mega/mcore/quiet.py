"""Silences what Megatron-Core says that nobody can act on."""

import logging
import warnings


def quiet() -> None:
    """Megatron-Core warns about optional packages and its own future."""
    warnings.filterwarnings("ignore", module="megatron")
    logging.getLogger("megatron.core").setLevel(logging.ERROR)
