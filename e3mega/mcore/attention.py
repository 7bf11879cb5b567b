"""Attention over packed sequences on torch's scaled-dot-product attention.

The sequences of a bin are copied into padded blocks, one block for each class of lengths (up to a
power of two, so that padding at most doubles a block), attended to causally, and copied back. It
is exact: a padding row is never before a real row of its sequence, so no real row attends to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.nn.functional import scaled_dot_product_attention

from e3mega.mcore.rope import Rotary

# Shape letters: T tokens of a bin, R rows of all padded blocks, S sequences and L length of a
# block, H heads of this rank, D width of a head, E half of it.


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive padded rows: ``num_sequences`` sequences of ``length`` rows each."""

    num_sequences: int
    length: int


@dataclass(frozen=True, slots=True)
class ContextSplit:
    """How context-parallel ranks divide the tokens of a bin."""

    group: dist.ProcessGroup
    own_T: torch.Tensor
    """Tokens of the bin that this rank computes, in its order."""
    gathered_T: torch.Tensor
    """Where each token of the bin stands when the ranks' tokens are put one after the other."""


@dataclass
class PackedSequences(PackedSeqParams):
    """What attention needs to know of a bin; made once, used by every layer."""

    blocks: tuple[Block, ...] = ()
    block_rows: tuple[int, ...] = ()
    """Padded rows of each block."""
    source_R: torch.Tensor | None = None
    """Token of the bin that each padded row copies."""
    row_T: torch.Tensor | None = None
    """Padded row of each token of the bin."""
    cosine_T1D: torch.Tensor | None = None
    """Rotary cosines of each token's position in its sequence, in the model's dtype."""
    sine_T1D: torch.Tensor | None = None
    """Rotary sines, negative in the first half of a head."""
    context: ContextSplit | None = None
    """None where this rank computes all tokens."""


def packed_sequences(
    positions_T: torch.Tensor,
    *,
    rope: Rotary,
    device: torch.device,
    dtype: torch.dtype,
    shares: Sequence[torch.Tensor] = (),
    cp_group: dist.ProcessGroup | None = None,
) -> PackedSequences:
    """Describe a bin whose positions (on the host) restart at 0 with every sequence.

    ``shares`` are the tokens of each rank of ``cp_group``, where there are several.
    """
    context = _context_split(shares, cp_group, device) if len(shares) > 1 else None
    num_tokens = positions_T.numel()
    starts = torch.nonzero(positions_T == 0).flatten()
    ends = torch.cat([starts[1:], starts.new_tensor([num_tokens])])
    lengths = (ends - starts).tolist()
    by_class: dict[int, list[int]] = {}
    for sequence, length in enumerate(lengths):
        by_class.setdefault((length - 1).bit_length(), []).append(sequence)
    blocks: list[Block] = []
    sources: list[torch.Tensor] = []
    row_T = torch.empty(num_tokens, dtype=torch.long)
    first_row = 0
    for _, members in sorted(by_class.items()):
        length = max(lengths[sequence] for sequence in members)
        chosen = torch.tensor(members)
        offsets = torch.arange(length)
        # Rows past the end of a sequence copy its last token; what they give is dropped.
        source_SL = torch.minimum(starts[chosen, None] + offsets, ends[chosen, None] - 1)
        rows_SL = first_row + torch.arange(source_SL.numel()).view_as(source_SL)
        is_real_SL = starts[chosen, None] + offsets < ends[chosen, None]
        row_T[source_SL[is_real_SL]] = rows_SL[is_real_SL]
        blocks.append(Block(len(members), length))
        sources.append(source_SL.flatten())
        first_row += source_SL.numel()
    own_positions_T = positions_T if context is None else positions_T[context.own_T.cpu()]
    angles_TE = own_positions_T.float()[:, None] * rope.frequencies_E
    cosine_TE, sine_TE = angles_TE.cos() * rope.scale, angles_TE.sin() * rope.scale
    cosine_TD = torch.cat([cosine_TE, cosine_TE], dim=1)
    sine_TD = torch.cat([-sine_TE, sine_TE], dim=1)
    cu_seqlens = torch.cat([starts, starts.new_tensor([num_tokens])]).to(torch.int32).to(device)
    return PackedSequences(
        qkv_format="thd",
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_kv=cu_seqlens,
        max_seqlen_q=max(lengths),
        max_seqlen_kv=max(lengths),
        blocks=tuple(blocks),
        block_rows=tuple(block.num_sequences * block.length for block in blocks),
        source_R=torch.cat(sources).to(device),
        row_T=row_T.to(device),
        cosine_T1D=cosine_TD[:, None].to(device, dtype),
        sine_T1D=sine_TD[:, None].to(device, dtype),
        context=context,
    )


def _context_split(
    shares: Sequence[torch.Tensor], group: dist.ProcessGroup | None, device: torch.device
) -> ContextSplit:
    assert group is not None, "ranks that share a bin have a group"
    order = torch.cat(list(shares))
    gathered_T = torch.empty_like(order)
    gathered_T[order] = torch.arange(len(order))
    return ContextSplit(group, shares[group.rank()].to(device), gathered_T.to(device))


class PackedAttention(torch.nn.Module):
    """Rotary embedding and causal attention within each sequence of a bin.

    A ``core_attention`` of a ModuleSpec; its queries, keys and values are the heads of this
    tensor-parallel rank. The model is built without a position embedding, since the rotation is
    done here, once a layer and for all sequences of the bin together: Megatron's own rotation
    loops over the sequences. Context-parallel ranks all attend to the whole bin, and each keeps
    its tokens: right on any machine, but only Transformer Engine divides this work.
    """

    def __init__(self, config: TransformerConfig, **_: object) -> None:
        super().__init__()
        assert config.attention_dropout == 0.0, "attention dropout is not supported"

    def forward(
        self,
        query_THD: torch.Tensor,
        key_THD: torch.Tensor,
        value_THD: torch.Tensor,
        attention_mask: torch.Tensor | None,
        /,
        *,
        packed_seq_params: PackedSequences,
        **_: object,
    ) -> torch.Tensor:
        """Attended values, (T, H * D)."""
        packed = packed_seq_params
        query_THD, key_THD = rotated(query_THD, packed), rotated(key_THD, packed)
        context = packed.context
        if context is not None:
            query_THD, key_THD, value_THD = (
                _gathered(x_THD, context) for x_THD in (query_THD, key_THD, value_THD)
            )
        queries, keys, values = (
            _ToRows.apply(x_THD, packed.source_R, packed.row_T).split(packed.block_rows)
            for x_THD in (query_THD, key_THD, value_THD)
        )
        attended = [
            _attend(query_RHD, key_RHD, value_RHD, block)
            for query_RHD, key_RHD, value_RHD, block in zip(
                queries, keys, values, packed.blocks, strict=True
            )
        ]
        attended_RHD = attended[0] if len(attended) == 1 else torch.cat(attended)
        attended_THD = _FromRows.apply(attended_RHD, packed.row_T)
        if context is not None:
            attended_THD = attended_THD[context.own_T]  # type: ignore  # apply is untyped
        return attended_THD.flatten(1)  # type: ignore  # apply is untyped


def _gathered(x_THD: torch.Tensor, context: ContextSplit) -> torch.Tensor:
    """All ranks' tokens in the order of the bin; its gradient is summed over the ranks."""
    whole_THD = gather_from_sequence_parallel_region(x_THD, group=context.group)
    return whole_THD.index_select(0, context.gathered_T)


def rotated(x_THD: torch.Tensor, packed: PackedSequences) -> torch.Tensor:
    """Queries or keys turned by their tokens' positions, with gradient."""
    # apply is untyped.
    return _Rotate.apply(x_THD, packed.cosine_T1D, packed.sine_T1D)  # type: ignore


def _attend(
    query_RHD: torch.Tensor, key_RHD: torch.Tensor, value_RHD: torch.Tensor, block: Block
) -> torch.Tensor:
    """Causal attention within the sequences of one block; (rows of the block, H, D)."""
    query, key, value = (
        x_RHD.unflatten(0, (block.num_sequences, block.length)).transpose(1, 2)
        for x_RHD in (query_RHD, key_RHD, value_RHD)
    )
    attended = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    return attended.transpose(1, 2).flatten(0, 1)


class _ToRows(torch.autograd.Function):
    """Copies tokens into padded rows. Gradients of padding rows are zero, so they are dropped."""

    @staticmethod
    def forward(ctx, x_THD, source_R, row_T):
        ctx.save_for_backward(row_T)
        return x_THD.index_select(0, source_R)

    @staticmethod
    def backward(ctx, grad_RHD):
        (row_T,) = ctx.saved_tensors
        return grad_RHD.index_select(0, row_T), None, None


class _FromRows(torch.autograd.Function):
    """Copies the rows that hold tokens back into the order of the bin."""

    @staticmethod
    def forward(ctx, x_RHD, row_T):
        ctx.save_for_backward(row_T)
        ctx.num_rows = x_RHD.shape[0]
        return x_RHD.index_select(0, row_T)

    @staticmethod
    def backward(ctx, grad_THD):
        (row_T,) = ctx.saved_tensors
        grad_RHD = grad_THD.new_zeros(ctx.num_rows, *grad_THD.shape[1:])
        return grad_RHD.index_copy_(0, row_T, grad_THD), None


class _Rotate(torch.autograd.Function):
    """A rotation; its gradient is the rotation by the opposite angle."""

    @staticmethod
    def forward(ctx, x_THD, cosine_T1D, sine_T1D):
        ctx.save_for_backward(cosine_T1D, sine_T1D)
        return _turned(x_THD, cosine_T1D, sine_T1D, sign=1)

    @staticmethod
    def backward(ctx, grad_THD):
        cosine_T1D, sine_T1D = ctx.saved_tensors
        return _turned(grad_THD, cosine_T1D, sine_T1D, sign=-1), None, None


def _turned(
    x_THD: torch.Tensor, cosine_T1D: torch.Tensor, sine_T1D: torch.Tensor, *, sign: int
) -> torch.Tensor:
    """Rotary embedding in the layout of Hugging Face models: halves of a head are the pairs."""
    swapped_THD = x_THD.roll(x_THD.shape[-1] // 2, -1)
    return torch.addcmul(x_THD * cosine_T1D, swapped_THD, sine_T1D, value=sign)
