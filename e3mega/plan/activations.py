"""Estimates the bytes that a rank of the learner keeps between forward and backward passes.

Counted are the tensors that the backward pass needs, with fused attention (its scores are never
kept), fused SwiGLU and no dropout; a rank without fused kernels keeps more. After Korthikanti et
al., arXiv 2205.05198, section 4, for a decoder with grouped-query attention.
"""

from e3mega.families.geometry import ModelOptions
from e3mega.families.mapping import padded_vocab_size
from e3mega.families.registry import form_of
from e3mega.plan.memory import bytes_per_value
from e3mega.plan.topology import layers_of
from e3mega.spec.schema.layout import LearnerLayout, Recompute


def activation_bytes(
    model: ModelOptions, layout: LearnerLayout, *, bin_tokens: int, num_bins: int, pp_rank: int
) -> int:
    """Bytes that a rank keeps at its fullest while it trains on ``num_bins`` packed bins.

    Pipeline rank p holds the bins that it has sent on and not got back: ``pp - p`` of them, with
    interleaved chunks as many chunks as Megatron's schedule warms up with.
    """
    tokens = -(-bin_tokens // layout.cp)
    chunks = layers_of(model.num_layers, layout, pp_rank)
    in_flight = _chunks_in_flight(layout, num_bins, pp_rank)
    num_layers = in_flight * max(len(chunk) for chunk in chunks)
    if layout.recompute is Recompute.FULL:
        kept = num_layers * _layer_input_bytes(model, layout)
        kept += max(_layer_bytes(model, layout, layer) for chunk in chunks for layer in chunk)
    else:
        whole = max(_layer_bytes(model, layout, layer) for chunk in chunks for layer in chunk)
        kept = num_layers * (whole - _recomputed_bytes(model, layout))
    if pp_rank == layout.pp - 1:
        kept += _head_bytes(model, layout)
    return tokens * kept


def _chunks_in_flight(layout: LearnerLayout, num_bins: int, pp_rank: int) -> int:
    behind = layout.pp - 1 - pp_rank
    if layout.chunks_per_stage == 1:
        return min(behind + 1, num_bins)
    warm_up = 2 * behind + (layout.chunks_per_stage - 1) * layout.pp + 1
    return min(warm_up, num_bins * layout.chunks_per_stage)


def _layer_input_bytes(model: ModelOptions, layout: LearnerLayout) -> int:
    """Bytes a token of what goes into a layer."""
    return model.hidden_size * bytes_per_value(model.precision) // _token_share(layout)


def _token_share(layout: LearnerLayout) -> int:
    """Among how many tp ranks the tokens between the matrices are divided."""
    return layout.tp if layout.sequence_parallel else 1


def _layer_bytes(model: ModelOptions, layout: LearnerLayout, layer: int) -> int:
    """Bytes a token that one layer keeps.

    Of the residual stream: the inputs of both norms and of the matrices behind them. Of attention:
    queries, keys and values (before their norms too, where there are any), what it attended and
    the logarithms of its sums. Of the feed-forward block: gate, up and their product.
    """
    value = bytes_per_value(model.precision)
    query, key = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    attention = 2 * query + 2 * key + (query + key if form_of(model).has_qk_norm else 0)
    stream = 4 * _layer_input_bytes(model, layout)
    sums = 4 * model.num_heads // layout.tp
    return (
        stream + attention * value // layout.tp + sums + _feed_forward_bytes(model, layout, layer)
    )


def _feed_forward_bytes(model: ModelOptions, layout: LearnerLayout, layer: int) -> int:
    value, experts = bytes_per_value(model.precision), model.experts
    if experts is None or not model.has_experts_in(layer):
        return 3 * model.ffn_size * value // layout.tp
    # Each token is copied to its experts, and what they give is kept until it is weighed.
    copies = 2 * model.hidden_size // _token_share(layout)
    inner = 3 * experts.ffn_size // layout.expert_tp
    return experts.experts_per_token * (copies + inner) * value


def _recomputed_bytes(model: ModelOptions, layout: LearnerLayout) -> int:
    """Bytes a token and layer that recomputing attention saves: its sums, not its result, which
    the matrix behind it keeps."""
    is_attention = layout.recompute is Recompute.ATTENTION
    return 4 * model.num_heads // layout.tp if is_attention else 0


def _head_bytes(model: ModelOptions, layout: LearnerLayout) -> int:
    """Bytes a token of the LM head: its input, the logits, and three arrays of their size in fp32
    (probabilities, their gradient, their logarithms)."""
    value = bytes_per_value(model.precision)
    rows = padded_vocab_size(model.vocab_size, layout.tp) // layout.tp
    return model.hidden_size * value + rows * (value + 12)
