"""What is printed of a model whose z is a vector: loadings, the sizes of networks, and estimates."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table as Grid
from rich.text import Text

from onebound.cli.kinds import as_typed
from onebound.cli.layout import grid, listed, shortened
from onebound.report import numbers
from onebound.report.parameters import array
from onebound.report.terms import classes_of

FACTORS_SHOWN = 3  # What fits beside a name, the mean and the noise at 80 columns.
ROWS_SHOWN = 24  # One screen.
NAME_WIDTH = 18
FEW_STEPS = 1000  # Of a network, which learns little in fewer.


def loadings_table(model: Any, names: Sequence[str]) -> Grid:
    """One row a column of the data: its mean, what one unit of each factor adds to it, and the noise that is left."""
    w, noise, mean = array(model.components), np.sqrt(array(model.noise_variance)), array(model.mean)
    explained = 1 - noise**2 / np.diag(array(model.covariance))
    shown = range(min(model.n_latent, FACTORS_SHOWN))
    kept = sorted(np.argsort(-explained, kind="stable")[:ROWS_SHOWN])
    table = grid("column", "mean", *(f"factor {k + 1}" for k in shown), "noise sd", "explained")
    for d in kept:
        cells = [mean[d], *(w[d, k] for k in shown), noise[d]]
        share = numbers.share(explained[d]).replace("\u00a0", " ")
        table.add_row(shortened(names[d], NAME_WIDTH), *(numbers.parameter(v) for v in cells), share)
    told = ["A loading is what one unit of a factor adds to a column; factors are known up to a rotation."]
    if len(shown) < model.n_latent:
        told.append(f"Shown: the first {len(shown)} of {model.n_latent} factors.")
    if len(kept) < len(names):
        told.append(f"Shown: the {len(kept)} of {len(names)} columns that are explained best.")
    table.caption, table.caption_justify = " ".join(told), "left"
    return table


def noise_of(model: Any) -> np.ndarray | None:
    """The standard deviation of each column about what is decoded, where the likelihood has one for all rows.  (D,)"""
    likelihood = model.likelihood
    if not hasattr(likelihood, "raw"):
        return None
    out = next(model.decoder.parameters()).new_zeros(1, likelihood.n_outputs)
    return np.sqrt(array(likelihood.variance(out))[0])


def network_table(model: Any, names: Sequence[str]) -> Any:
    """The sizes of both networks, what a column is given z, and the parameters of a prior that has some."""
    from onebound.cli.tables import parameters_table

    table = grid("", "", left=(0, 1))
    table.show_header, table.box = False, None
    for name, text in network_facts(model, names):
        table.add_row(Text(name, style="cyan"), text)
    inner = classes_of(model)
    if inner is None or not model.prior_started:
        return table
    return Group(table, "", Text("The prior of z", style="bold"), "", parameters_table(inner, _dimensions(model)))


def network_facts(model: Any, names: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Encoder, decoder, likelihood and prior, a line each."""
    own, ell = not model.own_networks, model.n_latent
    hidden = [str(h) for h in model.hidden]
    inputs, outputs = str(model.likelihood.n_inputs), str(model.likelihood.n_outputs)
    yield "encoder", "a network of your own" if own else " → ".join([inputs, *hidden, f"mean and sd of z ({ell} each)"])
    yield "decoder", "a network of your own" if own else " → ".join([f"z ({ell})", *hidden[::-1], outputs])
    yield "likelihood", f"{model.config()['likelihood']['name']}, the same for all columns"
    noise = noise_of(model)
    if noise is not None:
        low, high = int(noise.argmin()), int(noise.argmax())
        ends = [f"{numbers.parameter(noise[d])} ({shortened(names[d], 16)})" for d in (low, high)]
        yield "noise sd", " to ".join(dict.fromkeys(ends))
    yield "prior of z", "N(0, 1)" if model.prior is None else str(model.prior.title())


def _dimensions(model: Any) -> list[str]:
    return [f"z{d + 1}" for d in range(model.n_latent)]


def estimate_facts(estimate: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """ln p(y) from below, the gap from below, and how z is used."""
    steps, few = estimate["steps"], "; a network may want more: --passes" if estimate["steps"] < FEW_STEPS else ""
    yield "steps", f"{steps:,} along the gradient{few}"
    size = estimate["rows_per_item"]
    n, k = estimate["items"], estimate["draws"]
    items = f"{n:,} {'rows' if size == 1 else 'sequence' + 's' * (n != 1)}"
    value, half = (numbers.nats(estimate[name] / size) for name in ("evidence", "evidence_half"))
    yield "ln p(y)", f"≥ {value} nats per row (IWAE, K = {k}; {half} with K / 2), of {items}"
    gap = numbers.nats(estimate["gap"] / size)
    error = f" ± {numbers.parameter(estimate['gap_error'] / size, 2)}" if n > 1 else ""
    yield "gap", f"≥ {gap}{error} nats per row there, where L is {numbers.nats(estimate['bound'] / size)}"
    use = estimate["latent_use"]
    first = [f"{kl:.2f}" for kl in use["kl"][:8]]
    more = f" and {use['size'] - 8} more" if use["size"] > 8 else ""
    yield "KL of z", f"{listed(first) if not more else ', '.join(first) + more} nats per row, by dimension"
    yield "use of z", as_typed(use["advice"])
