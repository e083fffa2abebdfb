"""What the commands print: tables that are read at 80 columns, with colour and without."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from onebound.report import numbers
from onebound.report.parameters import Quantity, array, quantities

COMPONENTS_SHOWN = 6  # What fits beside the names of the quantities at 80 columns.
ROWS_SHOWN = 24  # One screen.

SAME = 1e-3  # Nats per row below which two results are the same for every purpose.

REASONS = {
    "relative change": "L settled",
    "stationary": "L is flat",
    "max_iter": "iteration limit",
    "time": "time limit",
}


def console() -> Console:
    """Standard output; no highlighting of its own, so that colour always means something."""
    return Console(highlight=False)


def show(*things: Any) -> None:
    """Print, one below the other."""
    out = console()
    for thing in things:
        out.print(thing)


def grid(*heads: str, left: Sequence[int] = (0,)) -> Grid:
    """A table with one rule under its heads; the columns in `left` are text, the others numbers."""
    table = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, head in enumerate(heads):
        # Numbers are never folded; words give way.
        is_text = place in left
        table.add_column(head, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
    return table


def models_table(entries: Iterable[Any]) -> Grid:
    """Name, story and own options of each model."""
    table = grid("MODEL", "what it is", "its own options", left=(0, 1, 2))
    table.columns[0].no_wrap = True
    for entry in entries:
        table.add_row(
            Text(entry.name, style="cyan"), entry.summary, " ".join(f"--{option}" for option in entry.options)
        )
    return table


def show_plan(plan: Any) -> None:
    """One row a latent or group of parameters, like EXPLAIN."""
    table = grid("", "name", "step", "why", left=(0, 1, 2, 3))
    for place in (0, 1):
        table.columns[place].no_wrap = True
    for row in plan.rows:
        table.add_row(row["kind"], Text(row["name"], style="cyan"), row["step"], row["why"])
    show(Text(f"{plan.algorithm} on {plan.model}", style="bold"), "", table)


def steps_table(plans: Iterable[Any]) -> Grid:
    """Each algorithm as the pair that it is, one line each."""
    table = grid("algorithm", "E step: what q is", "M step", left=(0, 1, 2))
    for plan in plans:
        e, m = (
            list(dict.fromkeys(row["step"] for row in plan.rows if row["kind"] == kind))
            for kind in ("latent", "parameter")
        )
        table.add_row(Text(plan.algorithm, style="cyan"), "; ".join(e), "; ".join(m))
    return table


def results_table(fits: Sequence[Any]) -> Grid:
    """One row an algorithm; the best evidence in bold."""
    table = grid("algorithm", "L", "ln p(y)", "gap", "passes", "seconds", "why it stopped", left=(0, 6))
    table.columns[0].no_wrap = True
    best = max(fit.evidence if fit.evidence is not None else fit.bound for fit in fits)
    for fit in fits:
        reached = fit.evidence if fit.evidence is not None else fit.bound
        table.add_row(
            fit.algorithm,
            numbers.nats(fit.bound),
            numbers.nats(fit.evidence),
            numbers.gap(fit.gap),
            numbers.count(fit.trace[-1].passes),
            numbers.seconds(fit.seconds),
            REASONS.get(fit.reason, fit.reason),
            style="bold" if reached >= best - 1e-6 else "",
        )
    return table


def show_comparison(task: Any, fits: Sequence[Any], refused: Mapping[str, str]) -> None:
    """The results, and who could not take part and why."""
    show(Text(headline(task), style="bold"), Text("All from one start. Nats per row; ln p(y) = L + gap."), "")
    show(results_table(fits), "", arrivals(fits))
    for name, reason in refused.items():
        show(Text(f"{name} was left out: {reason}", style="yellow"))


def show_demo(source: str, start: float, fits: Sequence[Any], page: Any) -> None:
    """The demo's screen: who climbs how, where each one arrived, and where the page is."""
    show(
        Text("One bound, five climbs", style="bold"),
        f"2 Gaussians with full covariance on the {source}.",
        f"All start from the same parameters, at ln p(y) = {numbers.nats(start)} nats per row.",
        "",
        steps_table(fit.plan for fit in fits),
        "",
        results_table(fits),
        "",
        "L = ln p(y) − gap, in nats per row; a pass is one look at all the data.",
        arrivals(fits),
        "",
        Text(f"Wrote {page}: the climbs, the data and the plans, for a browser.", style="green"),
    )


def arrivals(fits: Sequence[Any]) -> str:
    """Who reached the same place, and how far below the others stopped."""
    best = max(fit.evidence for fit in fits)
    near = [fit.algorithm for fit in fits if fit.evidence >= best - SAME]
    far = [f"{fit.algorithm} stopped {best - fit.evidence:.3f} below" for fit in fits if fit.evidence < best - SAME]
    together = (
        f"{_listed(near)} reached the same ln p(y) to {SAME:g} nats" if len(near) > 1 else f"{near[0]} is the best"
    )
    return "; ".join([together, *far]) + "."


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def headline(task: Any) -> str:
    """What was fitted to what."""
    k, rows, columns = task.model.n_components, task.table.n_rows, len(task.table.columns)
    options = "".join(f", {name} {value}" for name, value in task.options.items())
    return (
        f"{task.name}, {k} component{'s' * (k != 1)}{options}: {numbers.count(rows)} row{'s' * (rows != 1)} × "
        f"{columns} column{'s' * (columns != 1)} of {task.table.path}"
    )


def show_fit(task: Any, fit: Any, output: str | None) -> None:
    """What was fitted, how, why it stopped, how good it is, the parameters, and where they went."""
    facts = grid("", "", left=(0, 1))
    facts.show_header, facts.box = False, None
    for name, text in _facts(task, fit):
        facts.add_row(Text(name, style="cyan"), text)
    show(Text(headline(task), style="bold"), "", facts, "", parameters_table(fit.model, task.table.names))
    show("")
    for repair in repairs_told(fit.repairs):
        show(Text(f"Repaired: {repair}", style="yellow"))
    show(Text(f"Saved to {output}" if output else "Nothing was saved; give -o FILE to keep the model."))


def repairs_told(repairs: Iterable[str]) -> list[str]:
    """The repairs with components counted from 1, as in the tables."""
    return [re.sub(r"component (\d+)", lambda found: f"component {int(found[1]) + 1}", f"{text}.") for text in repairs]


def _facts(task: Any, fit: Any) -> Iterable[tuple[str, str]]:
    passes = numbers.count(fit.trace[-1].passes)
    yield "algorithm", fit.algorithm
    yield (
        "stopped",
        f"{REASONS.get(fit.reason, fit.reason)} ({passes} passes over the data, {numbers.seconds(fit.seconds)} s)",
    )
    yield "L", f"{numbers.nats(fit.bound)} nats per row"
    yield "ln p(y)", f"{numbers.nats(fit.evidence)} nats per row"
    yield "gap", f"{numbers.gap(fit.gap)} nats per row"
    if len(fit.restarts) > 1:
        low, high = min(fit.restarts), max(fit.restarts)
        near = sum(value >= high - SAME for value in fit.restarts)
        yield (
            "restarts",
            f"{len(fit.restarts)}, from {numbers.nats(low)} to {numbers.nats(high)}; {near} within 0.001 of the best",
        )
    gaps = sum(int((column.values != column.values).sum()) for column in task.table.columns)
    if gaps:
        yield "missing", f"{numbers.count(gaps)} cells, left out of the likelihood"


def parameters_table(model: Any, names: Sequence[str]) -> Any:
    """The largest components side by side, one row a quantity: the most telling ones where there are many."""
    weights = array(model.weights)
    order = sorted(range(len(weights)), key=lambda k: -weights[k])[:COMPONENTS_SHOWN]
    shown = sorted(order)
    every = quantities(model, names)
    rows = most_telling(every)
    table = grid("component", *(str(k + 1) for k in shown))
    table.add_row("share of the rows", *(f"{100 * weights[k]:.1f} %" for k in shown), style="bold")
    for row in rows:
        table.add_row(row.label.replace("standard deviation", "sd"), *(value_text(row, row.values[k]) for k in shown))
    left_out = []
    if len(shown) < len(weights):
        left_out.append(f"the {len(shown)} largest of {len(weights)} components")
    if len(rows) < len(every):
        left_out.append(f"the {len(rows)} rows of {len(every)} in which components differ most")
    if left_out:
        table.caption, table.caption_justify = f"Shown: {'; '.join(left_out)}.", "left"
    return Padding(table, (0, 0, 0, 0))


def value_text(row: Quantity, value: float) -> str:
    """A parameter in four digits; a probability in four decimals, because 4e−90 is 0 to a reader.

    >>> value_text(Quantity("sex = MALE", "probability", array([0.5, 4e-90])), 4e-90)
    '< 0.0001'
    """
    if row.what == "probability":
        return "< 0.0001" if 0 < value < 1e-4 else f"{value:.4f}".replace("0.0000", "0")
    return numbers.parameter(value)


def most_telling(rows: Sequence[Quantity]) -> list[Quantity]:
    """At most one screen of rows, those in which the components differ most, in their own order."""
    kept = sorted(sorted(range(len(rows)), key=lambda i: -rows[i].spread)[:ROWS_SHOWN])
    return [rows[i] for i in kept]
