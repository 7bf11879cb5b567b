"""Every GPU test runs on the CPU, with the layers and the precision that a CPU has."""

import pytest

from e3mega.spec.schema.layout import LearnerLayout
from tests import gpu_rehearsal
from tests.warm_parent import WarmParent


@pytest.mark.slow
def test_every_gpu_test_passes_on_the_cpu(warm_parent: WarmParent) -> None:
    rehearsal = "tests.gpu_rehearsal:rehearse_all"
    (found,) = warm_parent.run(LearnerLayout(), rehearsal, timeout_s=600.0)
    assert list(found) == [case.name for case in gpu_rehearsal.cases()]
    assert len(found) == 23, "as many as pytest collects with -m gpu"
    assert not any(found.values()), "\n".join(filter(None, found.values()))
