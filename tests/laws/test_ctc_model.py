"""CTC as a model: the sum over alignments is exact, EG climbs it, and what it decodes and aligns equals all paths' word."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onebound as ob
from onebound.errors import Infeasible, InputError, NoClosedForm, Unsupported
from onebound.models import CTC, LabelNGram
from onebound.networks import FrameNetwork
from onebound.structures import Alignment, Chain, ChainPotentials

INF = math.inf
EXACT = {"rtol": 1e-10, "atol": 1e-10}
BLANK, CLASSES = 1, 4


class Own(nn.Module):
    """A network of a user's own: every second frame, one layer, no word about lengths."""

    def __init__(self, n_classes: int = CLASSES) -> None:
        super().__init__()
        self.layer = nn.Linear(3, n_classes).double()

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 3) → (B, ⌈T / 2⌉, C)"""
        return self.layer(x[:, ::2])


def model(seed: int = 0, **options: object) -> CTC:
    """Two frames to one, in float64, far from a uniform start."""
    g = torch.Generator().manual_seed(seed)
    sizes = {"channels": (6,), "width": 3, "hidden": 5, "stride": 2, "dropout": 0.0}
    network = FrameNetwork(3, CLASSES, generator=g, **sizes).double()
    with torch.no_grad():
        network.last.weight.mul_(10.0)
    return CTC(network, CLASSES, blank=BLANK, **options).initialize(data())


def data(seed: int = 0, labels: tuple[tuple[int, ...], ...] = ((0, 0), (2, 3, 2), (), (3,))) -> ob.Observations:
    g = torch.Generator().manual_seed(seed)
    frames = [3 * torch.randn(t, 3, dtype=torch.float64, generator=g) for t in (9, 10, 5, 1, 8, 6)[: len(labels)]]
    return ob.Observations.paired([list(u) for u in labels], frames)


def said(classes: tuple[int, ...]) -> tuple[int, ...]:
    """What a class in each frame says."""
    return tuple(c for c, _ in itertools.groupby(classes) if c != BLANK)


def scores_of(m: CTC, x: Tensor) -> np.ndarray:
    """ln p(class | frame) of one item.  (T', C)"""
    return m.scores(x, torch.tensor([len(x)]))[0].detach().numpy()


def every_labelling(scores: np.ndarray) -> dict[tuple[int, ...], float]:
    """p(labels | x) of all label sequences, by listing all class sequences."""
    found: dict[tuple[int, ...], float] = {}
    for classes in itertools.product(range(CLASSES), repeat=len(scores)):
        p = math.exp(sum(scores[t, c] for t, c in enumerate(classes)))
        found[said(classes)] = found.get(said(classes), 0.0) + p
    return found


def frames_of(obs: ob.Observations) -> list[Tensor]:
    assert obs.context is not None
    assert obs.context_lengths is not None
    return list(obs.context.split(obs.context_lengths.tolist()))


def labels_of(obs: ob.Observations) -> list[tuple[int, ...]]:
    assert obs.lengths is not None
    return [tuple(u[:, 0].tolist()) for u in obs.y.split(obs.lengths.tolist())]


def test_evidence_is_the_sum_over_all_alignments_and_the_gap_is_zero() -> None:
    m, obs = model(), data()
    wanted = [
        math.log(every_labelling(scores_of(m, x))[u]) for x, u in zip(frames_of(obs), labels_of(obs), strict=True)
    ]
    np.testing.assert_allclose(m.evidence(obs).detach(), wanted, **EXACT)
    bound = ob.bound(m, obs)
    assert torch.equal(bound.gap, torch.zeros(4, dtype=bound.gap.dtype))
    np.testing.assert_allclose(bound.value, wanted, **EXACT)
    assert sum(every_labelling(scores_of(m, frames_of(obs)[0])).values()) == pytest.approx(1.0, rel=1e-12)


def test_both_readings_of_the_bound_agree_for_another_q() -> None:
    m, obs = model(), data()
    p, q = Alignment(m.log_potentials(m.observe(obs))), Alignment(model(1).log_potentials(model(1).observe(obs)))
    bound = ob.bound(m, obs, q)
    np.testing.assert_allclose(bound.value.detach(), (q.expected(p.log_potentials) + q.entropy).detach(), **EXACT)
    np.testing.assert_allclose(bound.gap.detach(), q.kl(p).detach(), **EXACT)
    assert bool((bound.gap[:2] > 1e-3).all())


def test_a_chain_with_edges_of_0_and_minus_infinity_says_the_same() -> None:
    m, obs = model(), data()
    for x, u in zip(frames_of(obs), labels_of(obs), strict=True):
        scores = torch.from_numpy(scores_of(m, x))
        classes = [BLANK, *itertools.chain.from_iterable((label, BLANK) for label in u)]
        k = len(classes)
        edges = torch.full((k, k), -INF, dtype=torch.float64)
        for a, b in itertools.product(range(k), repeat=2):
            if b - a in (0, 1) or (b - a == 2 and b % 2 == 1 and classes[a] != classes[b]):
                edges[a, b] = 0.0
        unary = scores[:, classes].clone()
        unary[0, 2:] = -INF
        unary[-1, : max(k - 2, 0)] = -INF
        chain = Chain(ChainPotentials(torch.zeros(k, dtype=torch.float64), edges, unary, torch.tensor([len(unary)])))
        one = ob.Observations.paired([list(u)], [x])
        torch.testing.assert_close(m.evidence(one).detach(), chain.log_partition, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(m.posterior(one).entropy.detach(), chain.entropy, rtol=1e-10, atol=1e-10)


def test_an_item_says_the_same_in_any_company() -> None:
    m, obs = model(), data()
    together = m.evidence(obs).detach()
    for i, (x, u) in enumerate(zip(frames_of(obs), labels_of(obs), strict=True)):
        alone = m.evidence(ob.Observations.paired([list(u)], [x])).detach()
        torch.testing.assert_close(alone[0], together[i], rtol=1e-10, atol=1e-10)
    own = CTC(Own(), CLASSES, blank=BLANK).initialize(obs)
    together = own.evidence(obs).detach()
    alone = own.evidence(ob.Observations.paired([labels_of(obs)[1]], [frames_of(obs)[1]])).detach()
    torch.testing.assert_close(alone[0], together[1], rtol=1e-10, atol=1e-10)


def test_eg_climbs_and_its_gradient_is_that_of_the_evidence() -> None:
    m, obs = model(), data()
    before = float(m.evidence(obs).detach().mean())
    fit = ob.fit(m, obs, ob.EG("adam", lr=0.01), max_iter=40, tol=0.0)
    after = float(m.evidence(obs).detach().mean())
    assert after > before + 1.0
    assert fit.bound == pytest.approx(after, rel=1e-10)
    parameter = m.network.last.bias
    (gradient,) = torch.autograd.grad(m.evidence(obs).mean(), parameter)
    step, at = 1e-6, int(gradient.abs().argmax())
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter[at] += sign * step
            values.append(float(m.evidence(obs).detach().mean()))
            parameter[at] -= sign * step
    assert float(gradient[at]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


def test_a_default_fit_takes_gradients_in_mini_batches_and_ends_in_evaluation() -> None:
    g = torch.Generator().manual_seed(0)
    m, obs = CTC(FrameNetwork(3, CLASSES, channels=(6,), hidden=5, generator=g), CLASSES, blank=BLANK), data()
    fit = ob.fit(m, obs, max_iter=3, generator=torch.Generator().manual_seed(1))
    assert "EG" in str(fit)
    assert not m.training
    assert fit.bound == pytest.approx(float(m.evidence(obs).detach().double().mean()), rel=1e-5)


def test_a_fit_with_dropout_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    def started() -> CTC:
        g = torch.Generator().manual_seed(0)
        return CTC(FrameNetwork(3, CLASSES, channels=(6,), hidden=5, dropout=0.3, generator=g), CLASSES, blank=BLANK)

    def fit(m: CTC, **options: object) -> ob.Fit:
        return ob.fit(m, data(), batch_size=2, generator=torch.Generator().manual_seed(1), **options)

    whole = fit(started(), max_iter=6)
    torch.manual_seed(99)  # a fit has its own generator
    fit(started(), max_iter=3, checkpoint=ob.Checkpoint(tmp_path / "c", every=0.0))
    resumed = ob.resume(tmp_path / "c", data(), max_iter=6)
    for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert resumed.bound == whole.bound


@pytest.mark.parametrize("algorithm", [ob.EM(), ob.MCEM(3), ob.HardEM(), ob.OnlineEM()], ids=lambda a: type(a).__name__)
def test_closed_forms_are_refused_with_the_reason(algorithm: object) -> None:
    with pytest.raises(NoClosedForm, match=r"network .*has no closed form. Use ob.EG\(...\)"):
        ob.fit(model(), data(), algorithm)


def test_samples_come_as_often_as_all_class_sequences_say() -> None:
    m, n = model(), 4000
    x = frames_of(data())[2]
    labels, classes = m.sample(n, torch.Generator().manual_seed(0), [x] * n)
    assert all(said(tuple(z.tolist())) == tuple(u.tolist()) for u, z in zip(labels[:50], classes[:50], strict=True))
    counts: dict[tuple[int, ...], int] = {}
    for u in labels:
        counts[tuple(u.tolist())] = counts.get(tuple(u.tolist()), 0) + 1
    for u, p in every_labelling(scores_of(m, x)).items():
        assert abs(counts.get(u, 0) / n - p) <= 5 * math.sqrt(p * (1 - p) / n) + 1e-12


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_a_wide_beam_finds_the_best_labellings_of_all(order: int) -> None:
    m = model(3)
    ngram = None
    if order:
        ngram = LabelNGram([[0, 2, 3], [0, 2], [3, 0, 2, 2]], order=order, n_classes=CLASSES, blank=BLANK)
    for x in frames_of(data(4)):
        every = every_labelling(scores_of(m, x))
        worth = {u: math.log(p) + (0.7 * ngram.log_prob(u) if ngram else 0.0) for u, p in every.items()}
        best = sorted(worth, key=lambda u: -worth[u])[:3]
        (found,) = m.decode([x], beam=400, language=ngram, weight=0.7, best=3)
        assert [tuple(one.labels.tolist()) for one in found] == best[: len(found)]
        for one in found:
            u = tuple(one.labels.tolist())
            assert one.log_prob == pytest.approx(math.log(every[u]), rel=1e-10)
            assert one.language == (pytest.approx(ngram.log_prob(u), rel=1e-10) if ngram else 0.0)


def test_the_best_path_says_the_best_class_of_every_frame() -> None:
    m, obs = model(), data()
    for x, (one,) in zip(frames_of(obs), m.decode(obs), strict=True):
        scores = scores_of(m, x)
        assert tuple(one.labels.tolist()) == said(tuple(scores.argmax(-1).tolist()))
        assert one.log_prob == pytest.approx(math.log(every_labelling(scores)[tuple(one.labels.tolist())]), rel=1e-10)


def test_a_narrow_beam_is_never_better_than_a_wide_one() -> None:
    m = model(5)
    for x in frames_of(data(6)):
        worth = [m.decode([x], beam=beam)[0][0].log_prob for beam in (2, 4, 64)]
        assert worth == sorted(worth)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_an_ngram_sums_to_one_in_every_context_and_counts_what_it_saw(order: int) -> None:
    seen = [[0, 2, 3], [0, 2], [3, 0, 2, 2]]
    ngram = LabelNGram(seen, order=order, n_classes=CLASSES, blank=BLANK)
    np.testing.assert_allclose(np.exp(ngram.table).sum(1), 1.0, rtol=1e-12)
    uniform = 1 / CLASSES  # three labels and the end
    counts = {0: 3, 2: 4, 3: 2, BLANK: 3}
    if order == 1:
        for label, count in counts.items():
            assert math.exp(ngram.table[0, label]) == pytest.approx((count + 4 * uniform) / (12 + 4), rel=1e-12)
    if order == 2:  # 0 was followed by 2 only, three times
        after = (counts[2] + 4 * uniform) / 16
        assert math.exp(ngram.table[0, 2]) == pytest.approx((3 + 1 * after) / (3 + 1), rel=1e-12)
    assert (ngram.log_prob([0, 2]) > ngram.log_prob([2, 0])) == (order > 1)


def test_alignments_are_the_best_path_with_the_posteriors_confidence() -> None:
    m, obs = model(), data()
    q = m.posterior(obs)
    frames, best = q.log_potentials.frames.tolist(), q.argmax.split(q.log_potentials.frames.tolist())
    for n, one in enumerate(m.align(obs)):
        z, states = best[n], q.occupancies(n)
        assert one.labels.tolist() == list(labels_of(obs)[n])
        assert one.log_prob == pytest.approx(float(m.evidence(obs)[n].detach()), rel=1e-10)
        for u in range(len(one.labels)):
            at = (z == 2 * u + 1).nonzero().flatten()
            assert (int(one.start[u]), int(one.stop[u])) == (int(at[0]), int(at[-1]) + 1)
            assert float(one.confidence[u]) == pytest.approx(float(states[at, 2 * u + 1].mean()), rel=1e-9)
        assert all(stop <= frames[n] for stop in one.stop.tolist())


@pytest.mark.parametrize("blank", [BLANK, 3])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path: Path, blank: int) -> None:
    g = torch.Generator().manual_seed(2)
    network = FrameNetwork(3, CLASSES, channels=(6, 5), hidden=5, layers=2, stride=1, generator=g)
    obs = data(labels=((0, 0), (2, 0, 2), (), (2,)))
    m = CTC(network, CLASSES, blank=blank, symbols=["a", "b", "c", "d"]).initialize(obs)
    ob.save(m, tmp_path / "m.safetensors")
    back = ob.load(tmp_path / "m.safetensors")
    assert torch.equal(back.evidence(obs), m.evidence(obs))
    assert back.symbols == ("a", "b", "c", "d")


def test_a_network_of_ones_own_is_saved_and_comes_back_into_the_same(tmp_path: Path) -> None:
    m = CTC(Own(), CLASSES, blank=BLANK).initialize(data())
    ob.save(m, tmp_path / "m.safetensors")
    with pytest.raises(Unsupported, match="into="):
        ob.load(tmp_path / "m.safetensors")
    back = ob.load(tmp_path / "m.safetensors", into=CTC(Own(), CLASSES, blank=BLANK))
    assert torch.equal(back.evidence(data()), m.evidence(data()))


def test_an_infeasible_item_is_named_with_the_reason() -> None:
    obs = data(labels=((0, 0), (2, 3, 2), (0,), (3, 3)))
    with pytest.raises(Infeasible, match=r"\(3: 2 labels.*need 3 frames, got 1\). Drop"):
        ob.bound(model(), obs)
    kept = model(keep_infeasible=True)
    assert float(kept.evidence(obs)[3].detach()) == -INF
    assert kept.align(obs)[3].start.tolist() == [-1, -1]


def test_bad_input_gets_one_line() -> None:
    m, obs = model(), data()
    x = frames_of(obs)
    for labels, what in (([0, BLANK], "blank 1, got 1 at"), ([4], "0 … 3"), ([-1], "got -1")):
        with pytest.raises(InputError, match=what):
            m.evidence(ob.Observations.paired([labels], x[:1]))
    spoilt = x[0].clone()
    spoilt[3, 1] = math.nan
    with pytest.raises(InputError, match="nan in frame 3 of item 1"):
        m.evidence(ob.Observations.paired([[0], [0]], [x[1], spoilt]))
    with pytest.raises(InputError, match="nan in frame 3 of item 1"):
        m.decode([x[1], spoilt])
    with pytest.raises(InputError, match=r"paired\(labels, frames\)"):
        m.evidence(torch.zeros(3, 1))
    with pytest.raises(InputError, match="one entry per context"):
        ob.Observations.paired([[0]], x[:2])
    with pytest.raises(InputError, match="the same F"):
        ob.Observations.paired([[0], [0]], [x[0], x[1][:, :2]])
    with pytest.raises(InputError, match="expected frames of 3 columns"):
        m.decode([x[0][:, :2]])
    with pytest.raises(InputError, match=r"FrameNetwork cannot take frames of shape \(1, 9, 2\).*map \(B, T, 2\)"):
        CTC(FrameNetwork(3, 4), 4).decode([x[0][:, :2]])
    with pytest.raises(InputError, match=r"network Own must return \(1, T', 4\).*got \(1, 5, 5\)"):
        CTC(Own(5), CLASSES).decode([x[0]])
    with pytest.raises(InputError, match="a list of frames"):
        m.decode(x[0])
    with pytest.raises(InputError, match="best=2 and beam=1"):
        m.decode(x, best=2)
    with pytest.raises(InputError, match="blank must be a class"):
        CTC(Own(), 4, blank=4)
    with pytest.raises(InputError, match="symbols"):
        CTC(Own(), 4, symbols=["a"])
    with pytest.raises(InputError, match="got context_lengths"):
        ob.models.HMM(ob.emissions.Categorical(2, [4])).observe(obs)
    with pytest.raises(InputError, match="Lower the order"):
        LabelNGram([], order=9, n_classes=40)
    with pytest.raises(InputError, match="context_lengths"):
        ob.Observations.of([[0]], lengths=[1], context=x[0], context_lengths=[3])


@torch.no_grad()
def test_priors_are_taken_from_every_frame() -> None:
    m, obs = model(), data()
    frames = list(obs.context.split(obs.context_lengths.tolist()))
    priors = torch.linspace(-2.0, 1.0, CLASSES, dtype=torch.float64)
    for x, best in zip(frames, m.decode(frames, log_priors=priors), strict=True):
        classes = (m.scores(x, torch.tensor([len(x)]))[0] - priors).argmax(-1)
        merged = torch.unique_consecutive(classes)
        assert best[0].labels.tolist() == merged[merged != BLANK].tolist()
    same = m.align(obs, log_priors=torch.full((CLASSES,), 0.7))
    assert all((a.start == b.start).all() for a, b in zip(m.align(obs), same, strict=True))
    never = torch.zeros(CLASSES, dtype=torch.float64)
    never[BLANK] = 50.0  # taken from the blank: labels fill all frames
    filled = m.align(obs, log_priors=never)
    assert all(
        int((a.stop - a.start).sum()) >= int((b.stop - b.start).sum())
        for a, b in zip(filled, m.align(obs), strict=True)
    )
    assert sum(int((a.stop - a.start).sum()) for a in filled) > sum(int((b.stop - b.start).sum()) for b in m.align(obs))
    with pytest.raises(InputError, match="one a class, got shape"):
        m.decode(frames, log_priors=[0.0])
