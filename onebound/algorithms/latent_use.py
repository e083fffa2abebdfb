"""Whether a VAE uses its z: active units, KL by dimension, the aggregated posterior against the prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onebound.errors import InputError
from onebound.observations import Observations

# A dimension whose q's mean varies less than this over the data is not used.  Burda, Grosse & Salakhutdinov 2016.
ACTIVE = 0.01


@dataclass(frozen=True)
class LatentUse:
    """What the dimensions of z carry; (L,) each, the most used first where `order` is applied.

    `kl`: mean over rows of KL(q(z_d) ‖ the prior's z_d as a Gaussian), nats; `activity`: variance over rows of q's mean;
    `mean`, `variance`: of the aggregated posterior, the mixture of all q; `prior_mean`, `prior_variance`: of the prior;
    `prior_learned`: whether that has parameters. `advice` counts dimensions from z1, as reports do.
    """

    kl: Tensor
    activity: Tensor
    mean: Tensor
    variance: Tensor
    prior_mean: Tensor
    prior_variance: Tensor
    prior_learned: bool = False

    @property
    def active(self) -> int:
        """How many dimensions are used: activity > 0.01."""
        return int((self.activity > ACTIVE).sum())

    @property
    def size(self) -> int:
        """L."""
        return len(self.kl)

    @property
    def order(self) -> list[int]:
        """The dimensions by KL, largest first."""
        return self.kl.argsort(descending=True).tolist()

    @property
    def advice(self) -> str:
        """One line on what to do about it."""
        off = (self.mean - self.prior_mean).abs() / self.prior_variance.sqrt()
        ratio = self.variance / self.prior_variance
        far = (off > 0.5) | (ratio > 2) | (ratio < 0.5)
        if self.active == 0:
            return "z is not used at all (posterior collapse): try warm_up=, a narrower decoder, or estimator='importance'."
        if self.active < self.size:
            return (
                f"{self.active} of {self.size} dimensions are used. n_latent={self.active} would do as well; if more were "
                "expected, try warm_up= or estimator='importance'."
            )
        if bool(far.any()):
            cure = "take a richer prior" if self.prior_learned else "let a prior learn it: prior=Mixture(...)"
            return (
                f"The aggregated posterior is not where the prior is (z{int(far.nonzero()[0]) + 1}): draws will not look like "
                f"the data. Train longer, or {cure}."
            )
        used = "The one dimension is" if self.size == 1 else f"All {self.size} dimensions are"
        return f"{used} used, and the aggregated posterior is where the prior is."

    def __str__(self) -> str:
        return (
            f"{self.active} of {self.size} dimensions used, KL {float(self.kl.sum()):.2f} nats per row. {self.advice}"
        )


@torch.no_grad()
def latent_use(model: Any, y: Any) -> LatentUse:
    """What each dimension of a DeepGaussian's z carries on `y`."""
    if all(latent.exact_posterior for latent in model.latents()):
        raise InputError(
            f"latent_use: expected a model whose q is a network, got a {type(model).__name__}, whose posterior is exact. "
            "model.posterior(y) says what z is."
        )
    obs: Observations = model.observe(y)
    means, variances, priors = [], [], []
    for block in obs.blocks(model.block_rows):
        q = model.q(block)
        means.append(q.mean.to(torch.float64))
        variances.append(q.variance.to(torch.float64).expand_as(q.mean))
        priors.append(model.prior_moments(block))
    weights = obs.weights if obs.lengths is None else obs.weights.repeat_interleave(obs.lengths)
    share = (weights / weights.sum()).unsqueeze(1)
    m, v = torch.cat(means), torch.cat(variances)
    pm, pv = (torch.cat([p[i].expand(len(x), -1) for p, x in zip(priors, means, strict=True)]) for i in range(2))
    kl = 0.5 * (pv.log() - v.log() + ((m - pm).square() + v) / pv - 1)
    mean, prior_mean = (share * m).sum(0), (share * pm).sum(0)
    activity = (share * (m - mean).square()).sum(0)
    spread = (share * (pm - prior_mean).square()).sum(0)
    return LatentUse(
        (share * kl).sum(0),
        activity,
        mean,
        activity + (share * v).sum(0),
        prior_mean,
        spread + (share * pv).sum(0),
        model.prior is not None or model.prior_network is not None,
    )
