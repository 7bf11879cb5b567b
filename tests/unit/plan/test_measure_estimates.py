"""The estimates that a run measured are a section that a spec takes."""

import sys
from pathlib import Path

import pytest
import yaml

from tests.data.make_recorded_run import write_recorded_run
from tests.spec_cases import resolved
from tools.measure_estimates import main, read_events


def test_a_finished_run_gives_a_section_for_specs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_recorded_run(tmp_path / "run", name="recorded", seed=1)
    monkeypatch.setattr(sys, "argv", ["measure_estimates", str(folder)])
    main()
    found = yaml.safe_load(capsys.readouterr().out)["estimates"]
    steps = read_events(folder / "metrics" / "loop.jsonl")["step", "easy"]
    assert steps and 0 < found["completion_frac"] < 1
    assert found["learner_frac"] > 0 and found["overhead_factor"] > 0
    sets = tuple(f"estimates.{name}={value}" for name, value in found.items())
    options = resolved(tmp_path, "include: [runs/quickstart]\n", sets=sets).options
    assert options.estimates.completion_frac == pytest.approx(found["completion_frac"])
