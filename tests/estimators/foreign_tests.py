"""Other packages' own tests, out of their wheels, run in a process of their own with our classes swapped in by a plugin."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent


def outcomes(folder: Path, modules: str | list[str], plugin: str | None, **environment: str) -> dict[str, str]:
    """Every test of installed modules, which must not share names, with "passed", "failed" or "skipped".

    Without a plugin they run on the peer's own classes.
    What is expected to fail counts as "skipped" if it does, and as "expected" if it passes all the same.
    """
    report = folder / "report.xml"
    paths = [str(HERE), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
    settings = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": "", **environment}
    (folder / "pytest.ini").write_text("[pytest]\n")  # none of our own options there
    command = [sys.executable, "-m", "pytest", "-q", "-rX", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command += ["-p", plugin] if plugin else []
    done = subprocess.run(
        [*command, "--pyargs", *([modules] if isinstance(modules, str) else modules)],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    passed_all_the_same = {
        line.split("::", 1)[1].split(" ")[0] for line in done.stdout.splitlines() if line[:6] == "XPASS "
    }
    seen = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        name, owner = case.get("name", ""), case.get("classname", "").rpartition(".")[2]
        full = f"{owner}::{name}" if owner.startswith("Test") else name
        assert full not in seen
        seen[full] = outcome(kinds, full in passed_all_the_same)
    return seen


def outcome(kinds: set[str], expected: bool) -> str:
    """What the elements below a test case say of it."""
    if kinds & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in kinds else "expected" if expected else "passed"
