"""The screens of fit, score and show: a headline, a few facts, and a table."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table as Grid
from rich.text import Text

from onebound.cli.extras import component_names
from onebound.cli.layout import grid, headline, listed, say, shortened, show
from onebound.cli.tables import REASONS, SAME, parameters_table
from onebound.report import numbers

COMPONENT = re.compile(r"component (\d+)")


def show_fit(
    task: Any, fit: Any, output: str | None, report: str | None, choice: Mapping[str, Any] | None = None
) -> None:
    """What was fitted, how, why it stopped, how good it is, the parameters, and where they went."""
    if choice is not None:
        show(Text(f"{task.name}, by {choice['criterion']}", style="bold"), "", choice_table(choice), "")
    show(Text(headline(task), style="bold"), "", _facts_grid(_facts(task, fit)), "")
    show(parameters_table(fit.model, task.table.names), "")
    for repair in repairs_told(fit.trace):
        show(Text(f"Repaired: {repair}", style="yellow"))
    if report:
        say(f"Wrote {report}, a page for a browser.")
    say(f"Saved to {output}" if output else "Nothing was saved; give -o FILE to keep the model.")


def choice_table(choice: Mapping[str, Any]) -> Grid:
    """What was tried, a row each; the best in bold."""
    held_out = choice["criterion"] == "heldout"
    table = grid("components", "ln p(y)", "parameters", "BIC", "ICL", "AIC", *(["held out"] if held_out else []))
    for tried in choice["candidates"]:
        is_best = tried["name"] == choice["best"]
        criteria = [numbers.signed(f"{tried[name]:,.1f}") for name in ("bic", "icl", "aic")]
        kept = [numbers.nats(tried["heldout"])] if held_out else []
        cells = [numbers.nats(tried["evidence"]), numbers.count(tried["n_parameters"]), *criteria, *kept]
        table.add_row(f"{tried['name']}{' ←' * is_best}", *cells, style="bold" if is_best else "")
    better = "held out: ln p(y) of rows kept from the fit, higher is better" if held_out else "lower is better"
    table.caption, table.caption_justify = f"ln p(y) in nats per row; {better}.", "left"
    return table


def show_model(path: str, model: Any, names: Sequence[str]) -> None:
    """A saved model: what it was fitted to and how well, and its parameters."""
    about = model.about or {}
    show(Text(f"{about.get('model') or model.title()}, {model.n_components} components", style="bold"), "")
    show(_facts_grid(_notes(path, model, about)), "", parameters_table(model, names))


def _notes(path: str, model: Any, about: dict[str, Any]) -> Iterable[tuple[str, str]]:
    yield "file", shortened(path, 64)
    if "data" in about:
        rows = f"{about['rows']:,} rows of " if "rows" in about else ""
        yield "fitted to", rows + shortened(about["data"], 50)
    for key, what in (("weights", "weights"), ("label", "known classes")):
        if about.get(key):
            yield what, f"column {about[key]}"
    fit = about.get("fit") or {}
    if fit:
        yield "algorithm", f"{fit['algorithm']}; {REASONS.get(fit['reason'], fit['reason'])}"
        yield "L", f"{numbers.nats(fit['bound'])} nats per row"
        yield "gap", f"{numbers.gap(fit['gap'])} nats per row"
    yield "parameters", f"{numbers.count(model.n_parameters())} free"


def show_score(task: Any, found: dict[str, Any], bits: bool, output: str | None) -> None:
    """L, ln p(y) and gap in all and per row; in bits too where asked."""
    total, mean = found["total"], found["mean"]
    table = grid("nats", "L", "ln p(y)", "gap")
    table.add_row("in all", numbers.nats(total["bound"]), numbers.nats(total["evidence"]), numbers.gap(total["gap"]))
    table.add_row("per row", numbers.nats(mean["bound"]), numbers.nats(mean["evidence"]), numbers.gap(mean["gap"]))
    show(Text(headline(task), style="bold"), "", table, "")
    if bits:
        table = grid("bits", "−L", "−ln p(y)")
        for name, key in (("per row", "bits_per_item"), ("per row and column", "bits_per_dimension")):
            table.add_row(name, numbers.nats(found[key]["bound"]), numbers.nats(found[key]["evidence"]))
        show(table, "")
    if total["evidence"] == -float("inf"):
        show(Text("Some rows cannot come from this model at all; --items shows which.", style="yellow"))
    if output is not None:
        say(f"Wrote the rows one by one to {output}")


def repairs_told(trace: Iterable[Any]) -> list[str]:
    """The repairs of a climb, one line a kind: which components, counted from 1 as in the tables, and when."""
    components: dict[str, set[int]] = {}
    iterations: dict[str, set[int]] = {}
    for record in trace:
        for text in record.repairs:
            kind = COMPONENT.sub("component", text)
            components.setdefault(kind, set()).update(int(k) + 1 for k in COMPONENT.findall(text))
            iterations.setdefault(kind, set()).add(record.iteration)
    return [_repair(kind, sorted(components[kind]), sorted(iterations[kind])) for kind in components]


def _repair(kind: str, components: list[int], iterations: list[int]) -> str:
    who = f"component{'s' * (len(components) > 1)} {listed([str(k) for k in components])}" if components else ""
    first, last = iterations[0], iterations[-1]
    when = f"iteration {first}" if first == last else f"iterations {first} to {last}, {len(iterations)} times"
    what = kind.replace(": its ", ": their ") if len(components) > 1 else kind
    return f"{what.replace('component', who, 1)} ({when})."


def _facts_grid(facts: Iterable[tuple[str, str]]) -> Grid:
    table = grid("", "", left=(0, 1))
    table.show_header, table.box = False, None
    for name, text in facts:
        table.add_row(Text(name, style="cyan"), text)
    return table


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
    gaps = sum(column.look.n_missing for column in task.table.columns)
    if gaps:
        yield "missing", f"{numbers.count(gaps)} cells, left out of the likelihood"
    if task.table.stream is not None:
        yield "read", "in blocks, in each pass anew, because the file is large"
    yield from _extra_facts(task)


def _extra_facts(task: Any) -> Iterable[tuple[str, str]]:
    extras = task.extras
    if extras.weights_name is not None:
        yield "weights", f"column {extras.weights_name}, {numbers.count(task.observations.total_weight)} in all"
    if extras.codes is not None:
        known = int((extras.codes == extras.codes).sum())
        classes = listed(component_names(task.model.about, len(extras.classes)))
        yield "classes", f"{classes}, known for {known:,} of {len(extras.codes):,} rows (column {extras.label_name})"
