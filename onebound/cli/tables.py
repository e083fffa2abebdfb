"""What the commands print: tables that are read at 80 columns, with colour and without."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from onebound.cli.extras import component_names
from onebound.cli.layout import grid, headline, listed, say, shortened, show
from onebound.report import numbers
from onebound.report.climbed import climbed
from onebound.report.moves import Moves, duration_text, moves_of
from onebound.report.parameters import Quantity, array, quantities
from onebound.report.terms import rows_per_item, terms_of

COMPONENTS_SHOWN = 6  # What fits beside the names of the quantities at 80 columns.
HEAD_WIDTH = 9  # Six names of classes and a quantity's name still fit.
ROWS_SHOWN = 24  # One screen.

PROBABILITY = Quantity("", "probability", array([]))

SAME = 1e-3  # Nats per row below which two results are the same for every purpose.

REASONS = {
    "relative change": "L settled",
    "stationary": "L is flat",
    "max_iter": "iteration limit",
    "time": "time limit",
}


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


def show_comparison(task: Any, fits: Sequence[Any], refused: Mapping[str, str], report: str | None) -> None:
    """The results, who could not take part and why, and where the page is."""
    told = [climbed(fit, rows=rows_per_item(task.observations)) for fit in fits]
    show(Text(headline(task), style="bold"), Text("All from one start. Nats per row; ln p(y) = L + gap."), "")
    show(results_table(told), "", arrivals(told))
    for name, reason in refused.items():
        show(Text(f"{name} was left out: {reason}", style="yellow"))
    if report is not None:
        say(f"Wrote {report}, a page for a browser.")


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
    )
    say(f"Wrote {page}: the climbs, the data and the plans, for a browser.", style="green")


def arrivals(fits: Sequence[Any]) -> str:
    """Who reached the same place, and how far below the others stopped."""
    best = max(fit.evidence for fit in fits)
    near = [fit.algorithm for fit in fits if fit.evidence >= best - SAME]
    far = [f"{fit.algorithm} stopped {best - fit.evidence:.3f} below" for fit in fits if fit.evidence < best - SAME]
    together = (
        f"{listed(near)} reached the same ln p(y) to {SAME:g} nats" if len(near) > 1 else f"{near[0]} is the best"
    )
    return "; ".join([together, *far]) + "."


def parameters_table(model: Any, names: Sequence[str]) -> Any:
    """The largest components side by side, one row a quantity: the most telling ones where there are many."""
    weights = array(model.weights)
    order = sorted(range(len(weights)), key=lambda k: -weights[k])[:COMPONENTS_SHOWN]
    shown = sorted(order)
    every = quantities(model, names)
    rows = most_telling(every)
    heads, terms = component_names(getattr(model, "about", None) or {}, len(weights)), terms_of(model)
    table = grid(terms.part, *(shortened(heads[k], HEAD_WIDTH) for k in shown))
    table.add_row(terms.share, *(_percent(weights[k]) for k in shown), style="bold")
    moves = moves_of(model)
    for label, *cells in [] if moves is None else moves_rows(moves, heads, shown):
        table.add_row(label, *cells)
    for row in rows:
        table.add_row(row.label.replace("standard deviation", "sd"), *(value_text(row, row.values[k]) for k in shown))
    left_out = []
    if len(shown) < len(weights):
        left_out.append(f"the {len(shown)} largest of {len(weights)} {terms.part}s")
    if len(rows) < len(every):
        left_out.append(f"the {len(rows)} rows of {len(every)} in which {terms.part}s differ most")
    if left_out:
        table.caption, table.caption_justify = f"Shown: {'; '.join(left_out)}.", "left"
    return Padding(table, (0, 0, 0, 0))


def moves_rows(moves: Moves, heads: Sequence[str], shown: Sequence[int]) -> list[list[str]]:
    """Where a chain starts, how long it stays, and where it goes next: a label and a cell for each state shown."""
    rows = [
        ["at the start", *(_percent(moves.initial[k]) for k in shown)],
        ["expected duration, rows", *(duration_text(moves.duration[k]) for k in shown)],
    ]
    for j in shown:
        cells = (value_text(PROBABILITY, moves.transition[k, j]) for k in shown)
        rows.append([f"next: {shortened(heads[j], HEAD_WIDTH)}", *cells])
    return rows


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def value_text(row: Quantity, value: float) -> str:
    """A parameter in four digits; a probability in four decimals, because 4e−90 is 0 to a reader.

    >>> value_text(Quantity("sex = MALE", "probability", array([0.5, 4e-90])), 4e-90)
    '< 0.0001'
    """
    if row.what == "probability":
        return "< 0.0001" if 0 < value < 1e-4 else f"{value:.4f}".replace("0.0000", "0")
    if row.what == "rate" and 0 < value < 1e-4:  # A component that never counts here: 2e−308 tells no more.
        return "< 0.0001"
    return numbers.parameter(value)


def most_telling(rows: Sequence[Quantity]) -> list[Quantity]:
    """At most one screen of rows, those in which the components differ most, in their own order."""
    kept = sorted(sorted(range(len(rows)), key=lambda i: -rows[i].spread)[:ROWS_SHOWN])
    return [rows[i] for i in kept]
