"""What a conversion is checked for, in words: every tensor, then the logits of prompts."""

from collections.abc import Iterator
from pathlib import Path

from e3mega.checkpoint.compare import compare_tensors
from e3mega.errors import CheckpointError
from e3mega.learner.logits import compare_logits
from e3mega.mcore.quiet import quiet

LOGITS_TOLERANCE = 1e-4
"""Per unit of the largest logit, in fp32; two orders of summation differ by less."""


def verified(hf_folder: Path, checkpoint: Path) -> Iterator[str]:
    """One line for each thing that was compared and is equal.

    Raises CheckpointError naming the first that is not.
    """
    quiet()
    count = compare_tensors(hf_folder, checkpoint)
    yield f"verified: {count} tensors are equal, bit for bit"
    report = compare_logits(hf_folder, checkpoint)
    words = (
        f"logits of {report.num_tokens} tokens differ by at most {report.max_abs_diff:.2g} "
        f"(the largest is {report.max_abs_logit:.3g})"
    )
    if not report.max_abs_diff <= LOGITS_TOLERANCE * max(1.0, report.max_abs_logit):
        raise CheckpointError(f"{hf_folder} and {checkpoint}: {words}; they are other models")
    yield f"verified: {words}"
