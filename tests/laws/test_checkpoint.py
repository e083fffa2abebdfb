"""Law 9 across processes: interrupted, written to a file, resumed = uninterrupted, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo import clone

import onebound as ob
from onebound.errors import StoreError, Unsupported

ALGORITHMS = {
    "EM": (ob.EM, {}),
    "SQUAREM": (lambda: ob.EM(accelerate="squarem"), {}),
    "OnlineEM": (ob.OnlineEM, {"batch_size": 50}),
    "EM-restarts": (ob.EM, {"restarts": 3, "init": "random"}),
    "EG": (ob.EG, {}),
    "EG-adam": (lambda: ob.EG("adam"), {}),
    "EG-minibatch": (lambda: ob.EG("adam"), {"batch_size": 50}),
    "VAE": (ob.VAE, {}),
    "VAE-restarts": (ob.VAE, {"restarts": 2, "init": "random"}),
    "VAE-lbfgs": (lambda: ob.VAE(optimizer="lbfgs"), {}),
    "VAE-score": (lambda: ob.VAE(estimator="score", samples=3), {"batch_size": 100}),
    "MCEM": (ob.MCEM, {}),
    "HardEM": (ob.HardEM, {}),
    "VEM": (ob.VEM, {}),
}


class Interrupted(Exception):
    """What a power cut is to a callback."""


def power_cut(after: int) -> object:
    """A callback that raises at its n-th record."""
    seen = []

    def callback(record: ob.Record) -> None:
        seen.append(record)
        if len(seen) == after:
            raise Interrupted

    return callback


def start() -> tuple[ob.models.Model, np.ndarray]:
    y = ob.data.old_faithful().values
    return ob.models.Mixture(ob.emissions.Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(3), "random"), y


@pytest.mark.parametrize("records", [7, 26])
@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_climb_that_was_cut_off_and_resumed_ends_at_the_same_bits(name: str, records: int, tmp_path: Path) -> None:
    build, options = ALGORITHMS[name]
    model, y = start()
    options = {"max_iter": 10, "tol": 0, **options}
    whole = ob.fit(clone(model), y, build(), generator=torch.Generator().manual_seed(1), **options)
    path = tmp_path / "run.ckpt"
    with pytest.raises(Interrupted):
        ob.fit(
            model,
            y,
            build(),
            generator=torch.Generator().manual_seed(1),
            callbacks=[power_cut(min(records, len(whole.trace) - 2))],
            checkpoint=ob.Checkpoint(path, every=0),
            **options,
        )
    resumed = ob.resume(path, y)
    assert (resumed.bound, resumed.evidence, resumed.gap) == (whole.bound, whole.evidence, whole.gap)
    assert resumed.restarts == whole.restarts
    assert [(r.after, r.bound, r.evidence, r.passes) for r in resumed.trace] == [
        (r.after, r.bound, r.evidence, r.passes) for r in whole.trace
    ]
    for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    if whole.recognition is not None:
        assert (
            ob.bound(resumed.model, y, resumed.recognition).mean() == ob.bound(whole.model, y, whole.recognition).mean()
        )
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]


def test_a_callback_that_stops_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    model, y = start()
    path = tmp_path / "run.ckpt"
    whole = ob.fit(clone(model), y, max_iter=9, tol=0)
    stopped = ob.fit(
        model, y, max_iter=9, tol=0, callbacks=[lambda r: r.iteration == 4], checkpoint=ob.Checkpoint(path, every=3600)
    )
    assert stopped.reason == "callback"
    assert ob.resume(path, y).bound == whole.bound
    longer = ob.resume(path, y, max_iter=20)
    assert longer.trace[-1].iteration == 21


def test_a_kill_loses_at_most_what_came_after_the_last_checkpoint(tmp_path: Path) -> None:
    """A real process, killed with SIGKILL in the middle."""
    path = tmp_path / "run.ckpt"
    code = (
        "import torch, onebound as ob\n"
        "y = ob.data.old_faithful().values\n"
        "m = ob.models.Mixture(ob.emissions.Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(3), 'random')\n"
        f"ob.fit(m, y, ob.VAE(), max_iter=10**6, tol=0, generator=torch.Generator().manual_seed(1),"
        f" checkpoint=ob.Checkpoint({str(path)!r}, every=0.05))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, y = start()
    reached = ob.resume(path, y, max_iter=1).trace[-1].iteration - 1  # M steps that were saved
    assert reached > 0
    resumed = ob.resume(path, y, max_iter=reached + 3)
    assert resumed.trace[-1].iteration == reached + 3 + 1
    assert np.isfinite(resumed.bound)


def test_other_data_a_model_and_a_damaged_checkpoint_are_refused(tmp_path: Path) -> None:
    model, y = start()
    path = tmp_path / "run.ckpt"
    ob.fit(model, y, max_iter=2, tol=0, checkpoint=ob.Checkpoint(path, every=0))
    with pytest.raises(StoreError, match="belongs to other data"):
        ob.resume(path, y + 1)
    with pytest.raises(StoreError, match="belongs to other data"):
        ob.resume(path, ob.Observations.of(y, weights=np.arange(len(y))))
    with pytest.raises(StoreError, match=r"ob\.resume"):
        ob.load(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(StoreError):
        ob.resume(path, y)
    ob.save(model, path)
    with pytest.raises(StoreError, match="not a checkpoint"):
        ob.resume(path, y)


def test_what_a_file_cannot_hold_is_refused_before_it_matters(tmp_path: Path) -> None:
    model, y = start()
    own = ob.EG(lambda parameters: torch.optim.SGD(parameters, lr=0.01))
    with pytest.raises(Unsupported, match="optimizer of your own"):
        ob.fit(model, y, own, max_iter=2, checkpoint=ob.Checkpoint(tmp_path / "c", every=0))
    assert list(tmp_path.iterdir()) == []


def test_a_summary_is_plain_json() -> None:
    import json

    model, y = start()
    summary = ob.fit(model, y, ob.VAE(), max_iter=3).summary()
    assert json.loads(json.dumps(summary, allow_nan=False))["trace"][0]["after"] == "E"
