"""Somebody stops a fit: it ends after its step, keeps what it was told to keep, and goes on to the same bits."""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

import onebound as ob
from onebound.cli.stopping import Stop, Terminated

Shell = Callable[..., Result]

LONG = ("fit", "gaussian-mixture", "faithful.csv", "--algorithm", "vae", "--tol", "0", "--max-iter", "1000000")


def stopped(folder: Path, number: int, *options: str) -> tuple[int, str]:
    """The exit code and the last line of a fit that gets a signal once it is under way, which a busy machine may delay."""
    command = [sys.executable, "-m", "onebound", *LONG, *options]
    for seconds in (5, 20, 60):
        # A test run in the background is deaf to SIGINT, and its children would be until the fit listens.
        running = subprocess.Popen(
            command,
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(timeout=seconds)
        running.send_signal(number)
        _, stderr = running.communicate(timeout=60)
        line = stderr.strip().splitlines()[-1]
        if "after iteration" in line:
            break
    return running.returncode, line


def test_ctrl_c_stops_with_one_line_and_nothing_written(faithful: str, tmp_path: Path) -> None:
    code, line = stopped(tmp_path, signal.SIGINT, "-o", "m.safetensors")
    assert code == 130
    assert re.fullmatch(r"onebound: stopped after iteration \d+; nothing was written\. --checkpoint FILE .*", line)
    assert [path.name for path in tmp_path.iterdir()] == [faithful]


def test_sigterm_writes_the_checkpoint_and_says_how_to_go_on(shell: Shell, faithful: str, tmp_path: Path) -> None:
    code, line = stopped(tmp_path, signal.SIGTERM, "--checkpoint", "run.checkpoint", "-o", "m.safetensors")
    assert code == 143
    assert {path.name for path in tmp_path.iterdir()} == {faithful, "run.checkpoint"}
    reached = int(re.findall(r"iteration (\d+)", line)[0])
    go_on = shlex.split(line.partition("go on with: ")[2])
    result = shell(*go_on[1:], "--max-iter", str(reached + 2), "--json")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize("algorithm", ["em", "eg", "vae"])
def test_an_interrupted_fit_ends_at_the_same_bits(
    shell: Shell, faithful: str, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    fit = ("fit", "gaussian-mixture", faithful, "--algorithm", algorithm, "--init", "random", "--tol", "0")
    fit = (*fit, "--max-iter", "9", "--seed", "4")
    assert shell(*fit, "-o", "whole.safetensors").exit_code == 0
    with monkeypatch.context() as patch:

        def at_the_fourth(self: Stop, record: ob.Record) -> bool:
            self.iteration = record.iteration
            if record.iteration == 4:
                self.number = signal.SIGINT
            return self.number is not None

        patch.setattr(Stop, "__call__", at_the_fourth)
        result = shell(*fit, "--checkpoint", "run.checkpoint", "-o", "m.safetensors")
    assert result.exit_code == 130
    assert not Path("m.safetensors").exists()
    assert "go on with: onebound continue run.checkpoint faithful.csv -o m.safetensors" in result.stderr
    result = shell("continue", "run.checkpoint", faithful, "-o", "m.safetensors")
    assert result.exit_code == 0, result.output
    whole, resumed = ob.load("whole.safetensors"), ob.load("m.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert resumed.about["columns"] == ["eruptions", "waiting"]


def test_a_second_signal_and_one_before_any_step_stop_at_once() -> None:
    early, again = Stop(), Stop()
    with pytest.raises(KeyboardInterrupt):
        early.ask(signal.SIGINT, None)
    again.iteration = 1
    again.ask(signal.SIGTERM, None)
    with pytest.raises(Terminated):
        again.ask(signal.SIGTERM, None)


def test_other_data_are_not_gone_on_with(shell: Shell, faithful: str) -> None:
    args = ("fit", "gaussian-mixture", faithful, "--max-iter", "2", "--checkpoint", "run.checkpoint", "--every", "0s")
    assert shell(*args).exit_code == 0
    Path("less.csv").write_text("\n".join(Path(faithful).read_text().splitlines()[:-1]) + "\n")
    result = shell("continue", "run.checkpoint", "less.csv")
    assert (result.exit_code, "belongs to other data" in result.stderr) == (2, True)
    result = shell("score", "run.checkpoint", faithful)
    assert (result.exit_code, "is the checkpoint of a fit under way" in result.stderr) == (2, True)
