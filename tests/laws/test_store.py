"""Law 9: save → load → the same bits; interrupted + resumed = uninterrupted; damaged files are refused."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from zoo import CLOSED, Case, clone

import onebound as ob
from onebound.errors import StoreError
from onebound.store import KEY, _digest


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    ob.save(ob.models.Mixture(ob.emissions.Poisson(2, 1)).assign([0.3, 0.7], rate=[[1.0], [4.0]]), path)
    return path


@pytest.mark.parametrize("case", CLOSED, ids=repr)
def test_a_loaded_model_has_the_same_bits(case: Case, tmp_path: Path) -> None:
    model, obs = case.model(), case.observations()
    model.about = {"columns": ["ä", "b"], "n": 3}
    ob.save(model, tmp_path / "m")
    again = ob.load(tmp_path / "m")
    assert torch.equal(again.evidence(obs), model.evidence(obs))
    assert torch.equal(again.log_prior(), model.log_prior())
    assert again.about == model.about
    assert again.n_parameters() == model.n_parameters()
    one, two = ob.fit(model, obs, max_iter=3, tol=0), ob.fit(again, obs, max_iter=3, tol=0)
    assert one.evidence == two.evidence
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


ALGORITHMS = {
    "EM": (ob.EM, {}),
    "SQUAREM": (lambda: ob.EM(accelerate="squarem"), {}),
    "EG": (ob.EG, {}),
    "EG-adam": (lambda: ob.EG("adam"), {}),
    "EG-minibatch": (lambda: ob.EG("adam"), {"batch_size": 50}),
    "VAE": (ob.VAE, {}),
    "VAE-lbfgs": (lambda: ob.VAE(optimizer="lbfgs"), {}),
    "VAE-score": (lambda: ob.VAE(estimator="score", samples=3), {"batch_size": 100}),
    "MCEM": (ob.MCEM, {}),
    "VEM": (ob.VEM, {}),
}


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_interrupted_and_resumed_equals_uninterrupted(name: str) -> None:
    build, options = ALGORITHMS[name]
    y = ob.data.old_faithful().values
    start = ob.models.Mixture(ob.emissions.Gaussian(2, 2)).initialize(y, torch.Generator().manual_seed(3), "random")
    # Adam decays over the last third of max_iter: the interrupted climb was asked for all 12 and stopped by a callback.
    whole = ob.fit(clone(start), y, build(), max_iter=12, tol=0, generator=torch.Generator().manual_seed(1), **options)
    model = clone(start)
    stopped = ob.fit(
        model,
        y,
        build(),
        max_iter=12,
        tol=0,
        generator=torch.Generator().manual_seed(1),
        callbacks=[lambda r: r.iteration == 5 and r.after == "M"],
        **options,
    )
    assert stopped.reason == "callback"
    resumed = ob.fit(model, y, build(), max_iter=12, tol=0, resume=stopped, **options)
    assert resumed.bound == whole.bound
    assert resumed.evidence == whole.evidence
    assert [(r.after, r.bound, r.passes) for r in resumed.trace] == [(r.after, r.bound, r.passes) for r in whole.trace]
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_same_seed_gives_the_same_bits() -> None:
    y = ob.data.old_faithful().values

    def run() -> ob.Fit:
        model = ob.models.Mixture(ob.emissions.Gaussian(3, 2))
        return ob.fit(model, y, ob.MCEM(), restarts=2, max_iter=10, generator=torch.Generator().manual_seed(7))

    one, two = run(), run()
    assert [r.bound for r in one.trace] == [r.bound for r in two.trace]
    assert one.restarts == two.restarts


def test_every_flipped_bit_is_refused(saved: Path) -> None:
    data = saved.read_bytes()
    good = ob.load(saved)
    picks = random.Random(0)
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 1 << picks.randrange(8)
        saved.write_bytes(bytes(broken))
        with pytest.raises(StoreError):
            ob.load(saved)
    saved.write_bytes(data)
    assert torch.equal(ob.load(saved).weights, good.weights)


def test_a_truncated_file_is_refused(saved: Path) -> None:
    data = saved.read_bytes()
    for size in (0, 1, 7, 8, 100, len(data) // 2, len(data) - 1):
        saved.write_bytes(data[:size])
        with pytest.raises(StoreError, match=r"load: .*m\.safetensors"):
            ob.load(saved)


def _rewrite(path: Path, **changes: object) -> None:
    """A file that is whole and has a right digest, with another header."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][KEY])
    text = json.dumps({**header, **changes})
    tensors = from_bytes(data)
    path.write_bytes(to_bytes(tensors, {KEY: text, "sha256": _digest(text, tensors)}))


def test_a_newer_schema_a_foreign_class_and_another_shape_are_refused(saved: Path) -> None:
    data = saved.read_bytes()
    _rewrite(saved, schema=99)
    with pytest.raises(StoreError, match="schema 99, newer than 1"):
        ob.load(saved)
    saved.write_bytes(data)
    _rewrite(saved, **{"class": "Popen"})
    with pytest.raises(StoreError, match="holds a 'Popen'; known classes are"):
        ob.load(saved)
    saved.write_bytes(data)
    _rewrite(saved, config={"emission": {"class": "Popen", "config": {}}})
    with pytest.raises(StoreError, match="asks for an emission 'Popen'"):
        ob.load(saved)
    saved.write_bytes(data)
    with pytest.raises(StoreError, match="do not fit"):
        ob.load(saved, into=ob.models.Mixture(ob.emissions.Poisson(3, 1)))


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    for path in (tmp_path / "a.csv", tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreError) as caught:
            ob.load(path)
        assert "\n" not in str(caught.value)


def test_saving_where_nothing_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    model = ob.models.Mixture(ob.emissions.Poisson(2, 1))
    with pytest.raises(StoreError, match="cannot write"):
        ob.save(model, tmp_path / "no" / "m.safetensors")
    (tmp_path / "dir").mkdir()
    with pytest.raises(StoreError, match="cannot write"):
        ob.save(model, tmp_path / "dir")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dir"]


def test_a_model_with_a_users_network_says_how_to_save_it(tmp_path: Path) -> None:
    model = ob.models.Mixture(ob.emissions.NeuralGaussian(torch.nn.Linear(1, 2), 2, 1))
    with pytest.raises(ob.errors.Unsupported, match="state_dict"):
        ob.save(model, tmp_path / "m")
