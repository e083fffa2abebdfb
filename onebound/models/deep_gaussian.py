"""The deep Gaussian latent: a vector z for each row, decoded by a network. The cell that a VAE fits.

    z ~ p(z)                      N(0, 1), or any model with a tractable evidence: a mixture, an HMM over the rows, factors
    y | z ~ likelihood(f(z, x))   f a network, x a context where there is one
    q(z | y) = N(m(y, x), s²(y, x)), both from a network

    L = E_q ln p(y | z) − KL(q ‖ p(z)), with z = m + s η   (equation (3)); the KL in closed form for N(0, 1)

With a mixture or an HMM as the prior its own z is summed exactly: E_q ln p(z) takes that model's evidence of the draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn

from onebound.emissions.base import ROUNDING, Part
from onebound.emissions.likelihoods import Likelihood, likelihood_from, name_of
from onebound.errors import InputError, NoExactPosterior, Unsupported, whole_number
from onebound.models.base import Latent, Model
from onebound.networks import applied, last_linear, mlp
from onebound.observations import Columns, Observations
from onebound.structures.gaussian import DiagonalGaussian

# Beyond these an encoder's standard deviations only overflow.
LOG_SD = (-7.0, 5.0)
# Rows in a block where nothing is to be differentiated.
BLOCK_ROWS = 1000


class Encoder(nn.Module):
    """q(z | y, x): a network from the likelihood's features to means and ln sd, which starts near N(0, 1)."""

    def __init__(self, network: nn.Module, n_latent: int) -> None:
        super().__init__()
        self.network = network
        self.n_latent = n_latent
        head = last_linear(network)
        if head is not None:
            with torch.no_grad():
                head.weight.mul_(0.1)
                if head.bias is not None:
                    head.bias.zero_()

    def forward(self, features: Tensor) -> DiagonalGaussian:
        """(R, F) → R Gaussians"""
        out = applied(self.network, features, 2 * self.n_latent, "DeepGaussian", "encoder")
        mean, log_sd = out.chunk(2, -1)
        return DiagonalGaussian.of(mean, log_sd.clamp(*LOG_SD))


class DeepGaussian(Model):
    """A vector z in `n_latent` dimensions for every row of y, decoded by a network into a `likelihood`.

    `likelihood`: a Likelihood, or with `n_features` a name ("gaussian", "network-gaussian", "bernoulli", "poisson",
    "negative-binomial"). `hidden`: sizes of the layers of both networks (tanh), the decoder's in reverse. `encoder`: a module
    (…, features [+ context]) → (…, 2 n_latent); `decoder`: (…, n_latent [+ context]) → (…, likelihood.n_outputs).
    `prior`: None for N(0, 1), or a model of `n_latent` columns with a tractable evidence; an HMM makes an item a sequence. One
    without parameters yet is fitted by EM on draws of q after a quarter of the climb, until when N(0, 1) stands in.
    `context_features`: columns of the context that both networks read besides (conditional VAE), the prior too.

    >>> model = DeepGaussian("bernoulli", 2, n_features=4, hidden=(8,))
    >>> model.title()
    'DeepGaussian of 4 columns (bernoulli), z in 2 dimensions'
    """

    def __init__(
        self,
        likelihood: Likelihood | str,
        n_latent: int,
        *,
        n_features: int | None = None,
        hidden: Sequence[int] = (200, 200),
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        prior: Model | None = None,
        context_features: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood = _likelihood(likelihood, n_features)
        self.n_features = likelihood.n_features
        self.n_latent = whole_number("DeepGaussian", "n_latent", n_latent)
        if isinstance(hidden, int):
            raise InputError(f"DeepGaussian: hidden must be a size for each layer, such as ({hidden},), got {hidden}.")
        self.hidden = tuple(whole_number("DeepGaussian", "hidden", h) for h in hidden)
        self.context_features = whole_number("DeepGaussian", "context_features", context_features, 0)
        self.own_networks = encoder is None and decoder is None
        c, ell = self.context_features, self.n_latent
        if encoder is None:
            encoder = mlp(likelihood.n_inputs + c, self.hidden, 2 * ell, generator=generator)
        if decoder is None:
            decoder = mlp(ell + c, self.hidden[::-1], likelihood.n_outputs, generator=generator)
        self.recognition = Encoder(encoder, ell)
        self.decoder = decoder
        self.prior = _with_evidence(prior, ell)
        self.prior_given = prior is not None and bool(prior.initialized)
        self.prior_started = self.prior is None or self.prior_given
        self._given: dict[str, Tensor] | None = None  # the parameters that a prior came with, for a second start
        self.prior_network: nn.Module | None = None
        if c and prior is None:
            self.prior_network = Encoder(mlp(c, self.hidden[-1:], 2 * ell, generator=generator), ell)

    # --- the distribution --------------------------------------------------------------------------------------------

    def encode(self, y: Any) -> DiagonalGaussian:
        """q(z | y) by the model's own recognition network.  R rows"""
        return self.q(self.observe(y))

    def q(self, obs: Observations) -> DiagonalGaussian:
        """q(z | y) of checked rows."""
        found: DiagonalGaussian = self.recognition(self._with_context(self.likelihood.features(obs.y), obs.context))
        return found

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The numbers that the likelihood takes.  (…, R, L) → (…, R, n_outputs)"""
        read = self._with_context(z, context)
        return applied(self.decoder, read, self.likelihood.n_outputs, "DeepGaussian", "decoder")

    def _with_context(self, x: Tensor, context: Tensor | None) -> Tensor:
        if not self.context_features:
            return x
        assert context is not None
        return torch.cat([x, context.to(x.dtype).expand(*x.shape[:-1], -1)], -1)

    def log_likelihood(self, obs: Observations, z: Tensor) -> Tensor:
        """ln p(y | z) of every row.  (…, R, L) → (…, R), nats"""
        return self.likelihood.log_prob(obs.y, self.decode(z, obs.context), obs.has_gaps)

    def log_prior_of(self, obs: Observations, z: Tensor) -> Tensor:
        """ln p(z) of every item: the evidence of z under the prior.  (S, R, L) → (S, N), nats"""
        if self.active_prior is None:
            each = self._rows_prior(obs, z).log_prob(z)
            return self.by_item(obs, each)
        ones = torch.ones(len(z), obs.n_items, dtype=torch.float64, device=z.device)
        return self.active_prior.evidence(self.drawn(obs, z, ones)).reshape(ones.shape)

    def drawn(self, obs: Observations, z: Tensor, weights: Tensor) -> Observations:
        """Draws as the prior's data, item by item and draw by draw.  (S, R, L), (S, N)"""
        lengths = None if obs.lengths is None else obs.lengths.repeat(len(z))
        rows = z.reshape(-1, self.n_latent).to(torch.float64)
        return Observations(rows, weights.reshape(-1), lengths, checked_by=self.prior)

    @property
    def active_prior(self) -> Model | None:
        """The model that is the prior, once it has parameters; until then N(0, 1) stands in."""
        return self.prior if self.prior_started else None

    def get_extra_state(self) -> Tensor:
        """Whether the prior has parameters, and whether it came with them, for a file.  (2,)"""
        return torch.tensor([self.prior_started, self.prior_given])

    def set_extra_state(self, state: Tensor) -> None:
        """As the file says."""
        self.prior_started, self.prior_given = (bool(x) for x in state)

    def _rows_prior(self, obs: Observations, z: Tensor) -> DiagonalGaussian:
        """p(z) where it is a Gaussian for each row: N(0, 1), or what the context says."""
        if self.prior_network is None:
            nothing = z.new_zeros(1, self.n_latent)
            return DiagonalGaussian.of(nothing, nothing)
        assert obs.context is not None
        given: DiagonalGaussian = self.prior_network(obs.context.to(z.dtype))
        return given

    def prior_moments(self, obs: Observations) -> tuple[Tensor, Tensor]:
        """Mean and variance of the prior by dimension, for each row where a context decides.  (R or 1, L) float64 each"""
        if self.active_prior is None:
            given = self._rows_prior(obs, self.likelihood.like.new_zeros(1, self.n_latent))
            return given.mean.to(torch.float64), given.variance.to(torch.float64)
        drawn = self.active_prior.sample(10_000, torch.Generator().manual_seed(0))[0]
        return drawn.mean(0, keepdim=True), drawn.var(0, keepdim=True)

    def by_item(self, obs: Observations, each: Tensor) -> Tensor:
        """Sums over the rows of every item.  (…, R) → (…, N)"""
        if obs.lengths is None:
            return each
        number = torch.arange(obs.n_items, device=each.device).repeat_interleave(obs.lengths)
        return each.new_zeros(*each.shape[:-1], obs.n_items).index_add(-1, number, each)

    def log_joint(self, y: Any, z: Tensor) -> Tensor:
        """ln p(z, y) for z (R, L) or (S, R, L), nats.  (N,) or (S, N)"""
        obs, z = self.observe(y), torch.as_tensor(z).to(self.likelihood.like.dtype)
        if z.ndim not in (2, 3) or z.shape[-2:] != (len(obs.y), self.n_latent):
            raise InputError(
                f"DeepGaussian.log_joint: z must be ({len(obs.y)}, {self.n_latent}), or that for each of S draws, got "
                f"{tuple(z.shape)}."
            )
        single = z.ndim == 2
        z = z.unsqueeze(0) if single else z
        total = self.by_item(obs, self.log_likelihood(obs, z)) + self.log_prior_of(obs, z)
        return total[0] if single else total

    def sampled_parts(self, obs: Observations, q: DiagonalGaussian, z: Tensor) -> dict[str, Tensor]:
        """The terms of L whose sum is its estimate from draws z (S, R, L) of q.   Equation (3).  (N,) each, nats"""
        fit = self.by_item(obs, self.log_likelihood(obs, z).mean(0))
        if self.active_prior is None:
            plain = self.prior_network is None and isinstance(q, DiagonalGaussian)
            divergence = q.kl_from_standard() if plain else q.kl(self._rows_prior(obs, z))
            return {"ln p(y | z)": fit, "−KL(q ‖ p(z))": -self.by_item(obs, divergence)}
        log_prior = self.log_prior_of(obs, z).mean(0)
        return {"ln p(y | z)": fit, "ln p(z)": log_prior, "H(q)": self.by_item(obs, q.entropy)}

    # --- what the loop asks of a model ---------------------------------------------------------------------------------

    def latents(self) -> list[Latent]:
        """z, a vector for each row."""
        under = "N(0, 1)" if self.prior is None else self.prior.title()
        what = f"{self.n_latent} real numbers for each row, under {under}"
        return [Latent("z", what, self.n_latent, DiagonalGaussian, False, True)]

    def parts(self) -> list[Part]:
        """Decoder, likelihood and prior; the prior may have a closed form, on draws of q."""

        def part(name: str, module: nn.Module, what: str) -> Part:
            parameters = list(module.parameters())
            return Part(
                name, parameters, sum(p.numel() for p in parameters), False, False, f"{what} has no closed form."
            )

        found = [part("decoder", self.decoder, "the M step of decoder (a network)")]
        if list(self.likelihood.parameters()):
            found.append(part("likelihood", self.likelihood, "the M step of likelihood (under a network)"))
        if self.prior_network is not None:
            found.append(part("prior", self.prior_network, "the M step of prior (a network)"))
        if self.prior is not None:
            inner = self.prior.parts()
            closed = all(p.closed_form for p in inner)
            how = (
                f"{self.prior.title()} on draws of q, after each pass"
                if closed
                else "the M step of prior has no closed form."
            )
            parameters, size = list(self.prior.parameters()), sum(p.n_parameters for p in inner)
            found.append(Part("prior", parameters, size, closed, False, how))
        return found

    def n_parameters(self) -> int:
        """Numbers in decoder, likelihood and prior; those of the encoder are Ψ, not Θ."""
        return sum(p.n_parameters for p in self.parts())

    def check(self, obs: Observations) -> None:
        """What the likelihood refuses, and a context that is not there."""
        if obs.allowed is not None:
            raise InputError(
                "DeepGaussian: known parts of z (allowed) have no meaning where z is a vector. Leave them out."
            )
        if self.context_features:
            self._check_context(obs)
        elif obs.context is not None:
            raise InputError(
                "DeepGaussian: got a context, which this model does not read. Build it with "
                f"context_features={obs.context.shape[-1]}, or leave the context out."
            )
        self.likelihood.check(obs, "DeepGaussian")

    def _check_context(self, obs: Observations) -> None:
        x = obs.context
        if x is None or x.ndim != 2 or x.shape[1] != self.context_features:
            got = "none" if x is None else f"{x.shape[1]} columns" if x.ndim == 2 else f"shape {tuple(x.shape)}"
            raise InputError(
                f"DeepGaussian: expected a context of {self.context_features} columns for every row, got {got}. Pass "
                "Observations.of(y, context=x)."
            )
        bad = ~x.isfinite()
        if bool(bad.any()):
            n, c = bad.nonzero()[0].tolist()
            raise InputError(
                f"DeepGaussian: context column {c} must hold finite numbers, got {x[n, c].item():g} in {obs.place(n)} (counted "
                "from 0). Remove the row or fill it in."
            )

    def observe(self, y: Any) -> Observations:
        """Rows, or sequences where the prior is over sequences; checked once."""
        obs = Observations.of(y)
        if obs.checked_by is self:
            return obs
        if self.prior is not None and _over_sequences(self.prior):
            obs = obs.as_sequences()
        elif obs.lengths is not None:
            obs = obs.as_rows()
        return super().observe(obs)

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Units of the columns, and the outputs' means where the decoder ends in a linear layer."""
        self.likelihood.prepare(columns)
        head = last_linear(self.decoder)
        if head is not None and head.out_features == self.likelihood.n_outputs:
            head.bias.copy_(self.likelihood.bias(columns))
        self.prepared.fill_(True)

    @torch.no_grad()
    def initialize(self, obs: Any, generator: torch.Generator | None = None, how: Any = None) -> Self:
        """Fresh networks of the same sizes (a user's own stay as they are), units and means from the data."""
        if how is not None:
            raise InputError(f"DeepGaussian.initialize: there is one way to start, leave how out, got {how!r}.")
        obs = self.observe(obs)
        if self.own_networks and bool(self.initialized):
            c, ell = self.context_features, self.n_latent
            fresh = mlp(self.likelihood.n_inputs + c, self.hidden, 2 * ell, generator=generator)
            self.recognition.load_state_dict(Encoder(fresh, ell).state_dict())
            decoder = mlp(ell + c, self.hidden[::-1], self.likelihood.n_outputs, generator=generator)
            self.decoder.load_state_dict(decoder.state_dict())
        if self.prior_network is not None and bool(self.initialized):
            fresh = mlp(self.context_features, self.hidden[-1:], 2 * self.n_latent, generator=generator)
            self.prior_network.load_state_dict(Encoder(fresh, self.n_latent).state_dict())
        self.prepare(obs.columns)
        self.prior_started = self.prior is None or self.prior_given
        if self.prior is not None:
            self._start_prior(self.prior)
        self.initialized.fill_(True)
        return self

    def _start_prior(self, prior: Model) -> None:
        """Without parameters, or with those that it came with, whatever a climb has made of them."""
        if not self.prior_given:
            prior.initialized.fill_(False)
        elif self._given is None:
            self._given = {k: v.clone() for k, v in prior.state_dict().items()}
        else:
            prior.load_state_dict(self._given)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        context: Tensor | None = None,
        lengths: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """n draws of y (n, D) and z (n, L); under a prior over sequences n steps of one, or of several with these `lengths`."""
        whole_number("DeepGaussian.sample", "n", n, 0)
        if lengths is not None and not (self.prior is not None and _over_sequences(self.prior)):
            raise InputError(
                "DeepGaussian.sample: lengths go with a prior over sequences, such as an HMM. Leave them out."
            )
        context = None if context is None else torch.as_tensor(context)
        if context is not None and not self.context_features:
            raise InputError("DeepGaussian.sample: got a context, which this model does not read. Leave it out.")
        if self.context_features and (context is None or context.shape != (n, self.context_features)):
            got = "None" if context is None else f"shape {tuple(context.shape)}"
            raise InputError(
                f"DeepGaussian.sample: expected {self.context_features} columns of context of {n} rows, got {got}."
            )
        z = self._prior_draws(n, generator, context, {} if lengths is None else {"lengths": lengths})
        return self.likelihood.sample(self.decode(z, context), generator), z

    def _prior_draws(
        self, n: int, generator: torch.Generator | None, context: Tensor | None, of: dict[str, Any]
    ) -> Tensor:
        like = next(self.decoder.parameters(), torch.zeros(()))
        if self.active_prior is not None:
            return self.active_prior.sample(n, generator, **of)[0].to(like)
        if self.prior_network is not None:
            assert context is not None
            drawn: Tensor = self.prior_network(context.to(like.dtype)).sample(1, generator)[0]
            return drawn
        return torch.randn(n, self.n_latent, dtype=like.dtype, device=like.device, generator=generator)

    @torch.no_grad()
    def reconstruct(self, y: Any) -> Tensor:
        """E[y | z = the encoder's mean].  (R, D)"""
        obs = self.observe(y)
        blocks = obs.blocks(self.block_rows)
        return torch.cat([self.likelihood.mean(self.decode(self.q(b).mean, b.context)) for b in blocks])

    def features(self, obs: Observations) -> Tensor:
        """What the encoder reads.  (R, F)"""
        return self._with_context(self.likelihood.features(obs.y), obs.context)

    @property
    def block_rows(self) -> int:
        """Rows in a block of an evaluation."""
        return BLOCK_ROWS

    @property
    def rounding(self) -> float:
        """Nothing is promised to rise."""
        return ROUNDING

    def title(self) -> str:
        """Columns, likelihood and latent."""
        under = "" if self.prior is None else f", prior {self.prior.title()}"
        name = name_of(self.likelihood)
        return f"DeepGaussian of {self.n_features} columns ({name}), z in {self.n_latent} dimensions{under}"

    def lint(self, obs: Observations) -> list[str]:
        """What is suspicious about these data under this model, a sentence each."""
        found = self.likelihood.lint(obs.columns, obs.head(1000).y)
        if self.n_latent > self.n_features:
            found.append(f"z has {self.n_latent} dimensions for {self.n_features} columns")
        if obs.context is not None and self.context_features:
            size = float(obs.context.to(torch.float64).square().mean().sqrt())
            if not 0.05 < size < 20:
                found.append(f"the context's root mean square is {size:.3g}; networks expect about 1: standardise it")
        return found

    # --- what has no sum -----------------------------------------------------------------------------------------------

    def _refuse(self, what: str) -> NoReturn:
        raise NoExactPosterior(
            f"DeepGaussian.{what}: z is under a network, so p(z | y) has no exact form. Use model.encode(y) for q, ob.VAE() to "
            "fit, ob.bound(model, y) for L with an estimate of ln p(y)."
        )

    def posterior(self, y: Any) -> NoReturn:
        """Refused: see `encode`."""
        self._refuse("posterior")

    def log_potentials(self, obs: Observations) -> NoReturn:
        """Refused."""
        self._refuse("log_potentials")

    def statistics(self, obs: Observations, q: Any) -> NoReturn:
        """Refused."""
        self._refuse("statistics")

    def expected_log_joint_parts(self, statistics: Any) -> NoReturn:
        """Refused."""
        self._refuse("expected_log_joint")

    def maximize(self, statistics: Any, *, partial: bool = False) -> NoReturn:
        """Refused."""
        self._refuse("maximize")

    # --- the file ------------------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """Likelihood, sizes, prior and precision; of networks of the user's own only that there are some."""
        prior = None if self.prior is None else {"class": type(self.prior).__name__, "config": self.prior.config()}
        return {
            "likelihood": {"name": name_of(self.likelihood), "config": self.likelihood.config()},
            "n_latent": self.n_latent,
            "hidden": list(self.hidden),
            "context_features": self.context_features,
            "prior": prior,
            "own_networks": self.own_networks,
            "dtype": str(next(self.parameters()).dtype).removeprefix("torch."),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The model of these sizes; Unsupported where its networks were the user's own."""
        if not config["own_networks"]:
            raise Unsupported(
                "DeepGaussian: a file cannot describe networks of your own. Build the model as it was and pass it as into=."
            )
        likelihood = likelihood_from(config["likelihood"]["name"], config["likelihood"]["config"])
        described = config["prior"]
        prior = None if described is None else Model.registered[described["class"]].from_config(described["config"])
        rest: dict[str, Any] = {k: config[k] for k in ("n_latent", "hidden", "context_features")}
        model = cls(likelihood, prior=prior, **rest)
        return model.double() if config["dtype"] == "float64" else model


def _likelihood(given: Likelihood | str, n_features: int | None) -> Likelihood:
    """By name, or as it is where its columns are the ones asked for."""
    if isinstance(given, str):
        return likelihood_from(given, {"n_features": n_features})
    if not isinstance(given, Likelihood):
        raise InputError(
            f"DeepGaussian: the likelihood must be a Likelihood or the name of one, got {given!r}. Write for instance "
            "GaussianLikelihood(n_features) or 'gaussian'."
        )
    if n_features not in (None, given.n_features):
        raise InputError(f"DeepGaussian: the likelihood has {given.n_features} columns, got n_features={n_features}.")
    return given


def _over_sequences(prior: Model) -> bool:
    from onebound.models.hmm import HMM

    return isinstance(prior, HMM)


def _with_evidence(prior: Model | None, n_latent: int) -> Model | None:
    """The prior, or an error that says what a prior must be."""
    if prior is None:
        return None
    if not isinstance(prior, Model) or not all(latent.exact_posterior for latent in prior.latents()):
        raise InputError(
            "DeepGaussian: the prior must be a model with a tractable evidence (Mixture, HMM, FactorAnalysis, "
            f"ProbabilisticPCA), got {type(prior).__name__}."
        )
    columns = getattr(prior, "n_features", None) or prior.emission.n_features  # type: ignore[union-attr]
    if columns != n_latent:
        raise InputError(f"DeepGaussian: the prior must have {n_latent} columns, those of z, got {columns}.")
    emission, moves = getattr(prior, "emission", None), getattr(prior, "transition", None)
    if getattr(emission, "needs_context", False) or type(moves).__name__ == "NeuralTransition":
        raise InputError("DeepGaussian: the prior must not read a context, for z has none. Give it fixed parameters.")
    try:
        prior.observe([[-0.5] * n_latent])
    except InputError as error:
        raise InputError(
            f"DeepGaussian: the prior must be a model of real columns, those of z, got {prior.title()}. Use Gaussian."
        ) from error
    return prior
