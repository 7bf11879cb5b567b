"""The page in a real browser: it opens without errors and fits a phone and a desktop."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from e3mega.report.page import write_report
from tests.data.recorded_runs import recorded

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="Chromium is missing: apt-get install chromium"
)
PROBE = """<!doctype html><body><iframe id="page" src="PAGE" style="width:WIDTHpx;height:900px"
></iframe><script>
document.getElementById("page").addEventListener("load", () => {
  const inner = document.getElementById("page").contentDocument;
  const wide = [...inner.querySelectorAll("body *")].filter((each) => {
    const box = each.getBoundingClientRect();
    return box.right > WIDTH + 1 && !each.closest(".scroll, pre, svg, .card ol");
  }).map((each) => each.tagName + "." + each.className);
  const attempts = inner.getElementById("filter-tokens");
  attempts.value = 40;
  attempts.dispatchEvent(new Event("input"));
  const count = inner.getElementById("filter-count").textContent;
  const svgs = inner.querySelectorAll("svg").length;
  document.body.innerHTML = `<p id="found">${inner.documentElement.scrollWidth};${svgs};${count};` +
    `${[...new Set(wide)].slice(0, 5)}</p>`;
});
</script></body>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of recorded small runs and measurements of models, with the paper's points."""
    folder = tmp_path_factory.mktemp("pages")
    names = ("grpo", "masked", "curriculum", "asymmetry-base")
    return write_report([recorded(name, folder) for name in names], with_paper=True)


def browse(url: str) -> tuple[str, str]:
    """The document after its scripts ran, and what the browser complained of."""
    assert BROWSER is not None
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--allow-file-access-from-files", "--enable-logging=stderr"),
            *("--virtual-time-budget=8000", "--window-size=1400,1000", url),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    complaints = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, "\n".join(complaints)


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_opens_without_errors_and_fits(page: Path, tmp_path: Path, width: int) -> None:
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.replace("PAGE", page.as_uri()).replace("WIDTH", str(width)))
    document, complaints = browse(probe.as_uri())
    assert complaints == ""
    found = re.search(r'<p id="found">(.*?)</p>', document)
    assert found is not None, document[-2000:]
    scroll_width, num_pictures, count, wide = found[1].split(";")
    assert int(scroll_width) <= width, f"wider than the screen: {wide}"
    assert int(num_pictures) > 40
    shown, total = re.findall(r"\d+", count)
    assert 0 < int(shown) < int(total), "the filter by length hides some rollouts"
