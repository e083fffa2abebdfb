"""A real browser opens the pages and has nothing to say; nothing is fetched from anywhere."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Shell = Callable[..., Result]

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# SVG's and XHTML's names look like addresses, and nothing is fetched from them.
NAMESPACES = re.compile(r"xmlns(:\w+)?=\"http://www\.w3\.org/[^\"]*\"")
FETCHED = re.compile(r"https?://|<(script|link|img|iframe|object|embed)\b|@import|url\((?!#)|\bsrc=", re.IGNORECASE)


@pytest.fixture
def pages(shell: Shell, faithful: str, mixed: str) -> list[Path]:
    """The demo's page, and reports with and without the data."""
    for line in (
        ("demo", "--max-iter", "2"),
        ("fit", "gaussian-mixture", faithful, "-o", "g.safetensors"),
        ("fit", "mixed-mixture", mixed, "-o", "m.safetensors"),
        ("fit", "gmm-vae", faithful, "--hidden", "4", "--passes", "2", "--report", "vae.html"),
        ("fit", "ppca", faithful, "--latent", "1", "--report", "ppca.html"),
        ("report", "g.safetensors", faithful, "-o", "geyser.html"),
        ("report", "m.safetensors", mixed, "-o", "mixed.html"),
        ("report", "m.safetensors", "-o", "alone.html"),
    ):
        result = shell(*line)
        assert result.exit_code == 0, result.output
    return [
        Path(name)
        for name in ("onebound-demo.html", "geyser.html", "mixed.html", "alone.html", "vae.html", "ppca.html")
    ]


def opened(page: Path, folder: Path) -> tuple[str, str]:
    """What headless Chromium makes of a page, and the lines of its log that come from the page."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={folder}", "--dump-dom", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_no_page_names_anything_to_fetch(pages: list[Path]) -> None:
    for page in pages:
        assert FETCHED.findall(NAMESPACES.sub("", page.read_text())) == [], page


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_no_page_makes_the_browser_complain(pages: list[Path], tmp_path: Path) -> None:
    for page in pages:
        text, console = opened(page, tmp_path / "profile")
        assert console == ""
        assert text.count("<svg") == page.read_text().count("<svg") > 0
    noisy = Path("noisy.html")  # The same eyes see what is wrong with another page.
    noisy.write_text("<!doctype html><title>x</title><script>console.error('seen')</script>")
    assert "seen" in opened(noisy, tmp_path / "profile")[1]
