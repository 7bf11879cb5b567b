"""e3mega's own loss on the cases of ``tests.loss_formulas``, in float64."""

import numpy as np
import torch

from e3mega.learner.logprobs import TokenScores
from e3mega.learner.policy_loss import LossInputs, LossTerms, policy_loss
from e3mega.objective.options import LossOptions
from e3mega.objective.samples import Samples, weigh
from e3mega.spec.files import LIBRARY
from e3mega.spec.resolve import resolve_spec
from tests.loss_formulas import BUDGET, Case

STAGES = resolve_spec(LIBRARY / "runs" / "loss-variants.yaml").options.curriculum.stages


def options_of(name: str) -> LossOptions:
    """The loss that a fragment makes of the defaults."""
    return STAGES["warmup" if name == "sft" else name].loss


def computed(case: Case, options: LossOptions) -> tuple[LossTerms, np.ndarray]:
    """e3mega's loss and its derivative by each token's log-probability."""
    lengths = np.array([[len(x) for x in row] for row in case.logp])
    samples = Samples(np.array(case.rewards), lengths, np.array(case.truncated))
    weighed = weigh(samples, options, budget_tokens=BUDGET, stage_step=0)

    def flat(rows: list[list[np.ndarray]]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([x for row in rows for x in row]))

    def spread(values_GS: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.repeat(values_GS.ravel(), lengths.ravel()))

    advantages_T = spread(weighed.advantages_GS)
    if options.sign.negative.tokens is not None:
        advantages_T = torch.where(
            advantages_T < 0, advantages_T * flat(case.factors), advantages_T
        )
    logprobs_T = flat(case.logp).requires_grad_()
    inputs = LossInputs(
        mask_T=spread(weighed.token_weights_GS),
        advantages_T=advantages_T,
        rollout_logprobs_T=torch.zeros(len(logprobs_T)),
        correct_T=spread(np.array(case.rewards)),
        sequence_T=spread(np.arange(lengths.size)),
        old_logprobs_T=flat(case.old),
        reference_logprobs_T=flat(case.reference),
        normalizer=weighed.normalizer,
    )
    zeros_T = torch.zeros(len(logprobs_T), dtype=torch.float64)
    terms = policy_loss(TokenScores(logprobs_T, zeros_T, zeros_T), inputs, options, temperature=1.0)
    terms.loss.backward()
    assert logprobs_T.grad is not None
    return terms, logprobs_T.grad.numpy()
