"""How a Megatron-Core parameter's shards are made of the rows and columns of HF tensors.

One description serves both directions: loading copies pieces of HF tensors into a shard, and the
weight source copies them back out of the gathered shards. It needs no torch: a piece is numbers.
"""

import math
from dataclasses import dataclass
from enum import Enum

_VOCAB_MULTIPLE = 64
"""Rows of a divided vocabulary are padded to a multiple of it, so that matrix products are quick
and the number of rows is the same for every tp that divides it."""


class Shard(Enum):
    """How tensor-parallel ranks divide a parameter."""

    REPLICATED = "replicated"
    """Every rank holds all of it."""
    COLUMN = "column"
    """Rows (output features) are divided: a column-parallel linear layer."""
    ROW = "row"
    """Columns (input features) are divided: a row-parallel linear layer."""
    QKV = "qkv"
    """Query, key and value rows, interleaved by key-value group, then divided."""
    GATE_UP = "gate_up"
    """Gate and up rows are each divided; a rank holds its gate rows, then its up rows."""
    VOCAB = "vocab"
    """Rows of the vocabulary, padded behind the last one, are divided."""


class Start(Enum):
    """What a parameter holds before any training."""

    RANDOM = "random"
    """Normal numbers."""
    ONE = "one"
    """Ones: the scale of a norm."""
    ZERO = "zero"
    """Zeros: a bias."""


class Place(Enum):
    """Which pipeline stage holds a parameter."""

    FIRST = "first"
    """The first stage."""
    LAYER = "layer"
    """The stage of its layer."""
    LAST = "last"
    """The last stage."""


@dataclass(frozen=True, slots=True)
class HfTensor:
    """A tensor of a Hugging Face model. Example: ``HfTensor("model.norm.weight", (128,))``."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Weight:
    """One line of a mapping table: a Megatron-Core parameter and the HF tensors it is made of.

    ``megatron_name`` holds ``{layer}`` and ``{expert}`` for numbers in the whole model; see
    ``name``.
    Example: ``Weight("decoder.final_layernorm.weight", (HfTensor("model.norm.weight", (128,)),),
    Shard.REPLICATED, Place.LAST)``.
    """

    megatron_name: str
    hf: tuple[HfTensor, ...]
    shard: Shard
    place: Place
    layer: int = 0
    """Number of the layer in the whole model, from 0."""
    num_groups: int = 1
    """QKV: key-value groups."""
    copy_name: str = ""
    """Parameter of the last stage that is a copy of this one when there are several stages."""
    start: Start = Start.RANDOM
    """What it holds before any training."""
    expert: int | None = None
    """Number of the expert in the whole layer, from 0; None for what is no expert's. Ranks divide
    experts by ``expert_tp``, all else by ``tp``."""

    @property
    def name(self) -> str:
        """The Megatron name with the numbers of layer and expert in the whole model."""
        return self.megatron_name.format(layer=self.layer, expert=self.expert)


@dataclass(frozen=True, slots=True)
class Piece:
    """Entries [start, stop) of dimension ``dim`` of HF tensor number ``source`` of a weight.

    Example: ``Piece(source=1, dim=0, start=32, stop=64)``.
    """

    source: int
    dim: int
    start: int
    stop: int


def padded_vocab_size(num_rows: int, tp: int) -> int:
    """Rows of the vocabulary with their padding, on all ``tp`` ranks together."""
    multiple = math.lcm(_VOCAB_MULTIPLE, tp)
    return -(-num_rows // multiple) * multiple


def pieces(weight: Weight, *, tp_rank: int, tp: int) -> tuple[Piece, ...]:
    """The pieces whose concatenation along their dimension is the shard of ``tp_rank``.

    The dimension is 1 for ROW and 0 otherwise. ``tp`` must divide what is divided; the plan
    checks that. A vocabulary's rows end before its padding does: the shard has zeros behind the
    pieces.
    """
    dim = 1 if weight.shard is Shard.ROW else 0
    if weight.shard is Shard.REPLICATED:
        return (Piece(0, dim, 0, weight.hf[0].shape[dim]),)
    if weight.shard is Shard.QKV:
        return _cut(_interleaved(weight), tp_rank, tp)
    if weight.shard is Shard.VOCAB:
        (tensor,) = weight.hf
        each = padded_vocab_size(tensor.shape[0], tp) // tp
        start, stop = (min(each * rank, tensor.shape[0]) for rank in (tp_rank, tp_rank + 1))
        return (Piece(0, dim, start, stop),)
    shares: list[Piece] = []
    for source, tensor in enumerate(weight.hf):
        shares += _cut([Piece(source, dim, 0, tensor.shape[dim])], tp_rank, tp)
    return tuple(shares)


def shard_shape(weight: Weight, tp: int) -> tuple[int, ...]:
    """Shape of every shard, a vocabulary's padding included; the shards are equally large."""
    shape = list(weight.hf[0].shape)
    if weight.shard is Shard.VOCAB:
        shape[0] = padded_vocab_size(shape[0], tp) // tp
        return tuple(shape)
    dim = 1 if weight.shard is Shard.ROW else 0
    shape[dim] = sum(piece.stop - piece.start for piece in pieces(weight, tp_rank=0, tp=tp))
    return tuple(shape)


def _interleaved(weight: Weight) -> list[Piece]:
    """All rows of query, key and value, group by group: q q k v | q q k v | ..."""
    whole: list[Piece] = []
    for group in range(weight.num_groups):
        for source, tensor in enumerate(weight.hf):
            rows = tensor.shape[0] // weight.num_groups
            whole.append(Piece(source, 0, group * rows, (group + 1) * rows))
    return whole


def _cut(whole: list[Piece], tp_rank: int, tp: int) -> tuple[Piece, ...]:
    """Share ``tp_rank`` of ``tp`` equal shares of concatenated pieces."""
    total = sum(piece.stop - piece.start for piece in whole)
    assert total % tp == 0, f"{total} rows or columns cannot be divided among {tp} ranks"
    first, last = total // tp * tp_rank, total // tp * (tp_rank + 1)
    share: list[Piece] = []
    offset = 0
    for piece in whole:
        length = piece.stop - piece.start
        start, stop = max(first - offset, 0), min(last - offset, length)
        if start < stop:
            share.append(Piece(piece.source, piece.dim, piece.start + start, piece.start + stop))
        offset += length
    return tuple(share)
