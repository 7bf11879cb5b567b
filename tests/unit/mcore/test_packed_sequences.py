"""What attention is told of a bin: where sequences begin, the longest, and turning positions."""

import pytest
import torch

from e3mega.mcore.attention import packed_sequences
from e3mega.mcore.rope import rotary
from tests.family_cases import family_model


@pytest.mark.parametrize(
    "lengths", [[9], [1, 1, 1], [4, 9, 2, 5], [5, 11]], ids=["one", "shortest", "many", "padding"]
)
def test_positions_restart_and_the_longest_sequence_is_told(lengths: list[int]) -> None:
    """Of the last bin the second sequence is padding: it counts like any other."""
    rope = rotary(family_model("qwen3-tied"))
    positions_T = torch.cat([torch.arange(length) for length in lengths])
    found = packed_sequences(
        positions_T, rope=rope, device=torch.device("cpu"), dtype=torch.float32
    )
    ends = torch.tensor(lengths).cumsum(0).tolist()
    for starts in (found.cu_seqlens_q, found.cu_seqlens_kv):
        assert starts is not None
        assert starts.dtype is torch.int32
        assert starts.tolist() == [0, *ends]
    assert found.max_seqlen_q == found.max_seqlen_kv == max(lengths)
    cosine_T1D, sine_T1D = found.cosine_T1D, found.sine_T1D
    assert cosine_T1D is not None
    assert sine_T1D is not None
    for end, length in zip(ends, lengths, strict=True):
        for token in range(length):
            angles_E = token * rope.frequencies_E
            row = end - length + token
            torch.testing.assert_close(cosine_T1D[row, 0], angles_E.cos().repeat(2))
            torch.testing.assert_close(
                sine_T1D[row, 0], torch.cat([-angles_E.sin(), angles_E.sin()])
            )
