"""The screens of fit, score and show: a headline, a few facts, and a table."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table as Grid
from rich.text import Text

from onebound.cli.extras import component_names
from onebound.cli.kinds import kind_of
from onebound.cli.layout import grid, headline, listed, say, shortened, show
from onebound.cli.tables import REASONS, SAME
from onebound.report import numbers
from onebound.report.climbed import climbed
from onebound.report.terms import Terms, rows_per_item, sized, terms_of

PART = re.compile(r"(?:component|state) (\d+)")


def show_fit(
    task: Any, fit: Any, output: str | None, report: str | None, choice: Mapping[str, Any] | None = None
) -> None:
    """What was fitted, how, why it stopped, how good it is, the parameters, and where they went."""
    if choice is not None:
        table = choice_table(choice, terms_of(fit.model), rows_per_item(task.observations))
        show(Text(f"{task.name}, by {choice['criterion']}", style="bold"), "", table, "")
    show(Text(headline(task), style="bold"), "", facts_grid(_facts(task, fit)), "")
    show(kind_of(fit.model).parameters(fit.model, task.table.names), "")
    for repair in repairs_told(fit.trace, terms_of(fit.model).part):
        # How a prior begins is recorded with the repairs, and is none.
        noted = "Noted" if repair.startswith("prior: N(0, 1)") else "Repaired"
        show(Text(f"{noted}: {repair}", style="yellow"))
    if report:
        say(f"Wrote {report}, a page for a browser.")
    say(f"Saved to {output}" if output else "Nothing was saved; give -o FILE to keep the model.")


def choice_table(choice: Mapping[str, Any], terms: Terms, rows: float) -> Grid:
    """What was tried, a row each; the best in bold. `rows`: how many an item has."""
    held_out = choice["criterion"] == "heldout"
    table = grid(f"{terms.part}s", "ln p(y)", "parameters", "BIC", "ICL", "AIC", *(["held out"] if held_out else []))
    for tried in choice["candidates"]:
        is_best = tried["name"] == choice["best"]
        criteria = [numbers.signed(f"{tried[name]:,.1f}") for name in ("bic", "icl", "aic")]
        kept = [numbers.nats(tried["heldout"])] if held_out else []
        cells = [numbers.nats(tried["evidence"] / rows), numbers.count(tried["n_parameters"]), *criteria, *kept]
        table.add_row(f"{tried['name']}{' ←' * is_best}", *cells, style="bold" if is_best else "")
    kept_out = f"held out: ln p(y) per {terms.item} of those kept from the fit, higher is better"
    better = kept_out if held_out else "lower is better"
    table.caption, table.caption_justify = f"ln p(y) in nats per row; {better}.", "left"
    return table


def show_model(path: str, model: Any, names: Sequence[str]) -> None:
    """A saved model: what it was fitted to and how well, and its parameters."""
    about = model.about or {}
    show(Text(f"{about.get('model') or model.title()}, {sized(model)}", style="bold"), "")
    show(facts_grid(_notes(path, model, about)), "", kind_of(model).parameters(model, names))


def _notes(path: str, model: Any, about: dict[str, Any]) -> Iterable[tuple[str, str]]:
    yield "file", shortened(path, 64)
    if "data" in about:
        rows = f"{about['rows']:,} rows of " if "rows" in about else ""
        yield "fitted to", rows + shortened(about["data"], 50)
    for key, what in (("weights", "weights"), ("label", "known classes"), ("sequence_column", "sequences by")):
        if about.get(key):
            yield what, f"column {about[key]}"
    fit = about.get("fit") or {}
    if fit:
        yield "algorithm", f"{fit['algorithm']}; {REASONS.get(fit['reason'], fit['reason'])}"
        told = climbed(fit, terms=terms_of(model))
        yield "L", f"{numbers.nats(told.bound)} nats per {told.per}"
        if told.gap is not None:
            yield "gap", f"{numbers.gap(told.gap)} nats per {told.per}"
        yield from kind_of(model).facts(fit.get("estimate"))
    yield "parameters", f"{numbers.count(model.n_parameters())} free"


def show_score(task: Any, found: dict[str, Any], bits: bool, output: str | None) -> None:
    """L, ln p(y) and gap in all and per row, of sequences per sequence too; in bits too where asked."""
    total, mean = found["total"], found["mean"]
    least = " ≥" if "draws" in found else ""
    table = grid("nats", "L", f"ln p(y){least}", f"gap{least}")
    table.add_row("in all", numbers.nats(total["bound"]), numbers.nats(total["evidence"]), numbers.gap(total["gap"]))
    item = terms_of(task.model).item
    means = [(f"per {item}", mean)] if task.observations.n_items > 1 or "per_row" not in found else []
    if "per_row" in found:
        means.append(("per row", found["per_row"]))
    for name, of in means:
        table.add_row(name, numbers.nats(of["bound"]), numbers.nats(of["evidence"]), numbers.gap(of["gap"]))
    if least:
        told = f"L and ln p(y) are estimates from {found['draws']} draws of z; that of ln p(y) is low (IWAE)."
        table.caption, table.caption_justify = told, "left"
    show(Text(headline(task), style="bold"), "", table, "")
    if bits:
        table = grid("bits", "−L", "−ln p(y)")
        rows = [("per row", "bits_per_row")] if "bits_per_row" in found else []
        for name, key in ((f"per {item}", "bits_per_item"), *rows, ("per row and column", "bits_per_dimension")):
            table.add_row(name, numbers.nats(found[key]["bound"]), numbers.nats(found[key]["evidence"]))
        show(table, "")
    if total["evidence"] == -float("inf"):
        show(Text(f"Some {item}s cannot come from this model at all; --items shows which.", style="yellow"))
    if output is not None:
        say(f"Wrote the {item}s one by one to {output}")


def repairs_told(trace: Iterable[Any], part: str = "component") -> list[str]:
    """The repairs of a climb, one line a kind: which components, counted from 1 as in the tables, and when."""
    components: dict[str, set[int]] = {}
    iterations: dict[str, set[int]] = {}
    for record in trace:
        for text in record.repairs:
            kind = PART.sub("component", text)
            components.setdefault(kind, set()).update(int(k) + 1 for k in PART.findall(text))
            iterations.setdefault(kind, set()).add(record.iteration)
    return [_repair(kind, part, sorted(components[kind]), sorted(iterations[kind])) for kind in components]


def _repair(kind: str, part: str, components: list[int], iterations: list[int]) -> str:
    who = f"{part}{'s' * (len(components) > 1)} {listed([str(k) for k in components])}" if components else ""
    first, last = iterations[0], iterations[-1]
    when = f"iteration {first}" if first == last else f"iterations {first} to {last}, {len(iterations)} times"
    what = kind.replace(": its ", ": their ") if len(components) > 1 else kind
    return f"{what.replace('component', who, 1)} ({when})."


def facts_grid(facts: Iterable[tuple[str, str]]) -> Grid:
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
    told = climbed(fit, rows=rows_per_item(task.observations))
    yield "L", f"{numbers.nats(told.bound)} nats per row{_per_sequence(task, fit.bound)}"
    if told.evidence is not None:
        yield "ln p(y)", f"{numbers.nats(told.evidence)} nats per row{_per_sequence(task, fit.evidence)}"
        yield "gap", f"{numbers.gap(told.gap)} nats per row"
    yield from kind_of(fit.model).facts(fit.model.about["fit"].get("estimate"))
    if len(told.restarts) > 1:
        low, high = min(told.restarts), max(told.restarts)
        near = sum(value >= high - SAME for value in told.restarts)
        yield (
            "restarts",
            f"{len(told.restarts)}, from {numbers.nats(low)} to {numbers.nats(high)}; {near} within 0.001 of the best",
        )
    gaps = sum(column.look.n_missing for column in task.table.columns)
    if gaps:
        yield "missing", f"{numbers.count(gaps)} cells, left out of the likelihood"
    if task.table.stream is not None:
        yield "read", "in blocks, in each pass anew, because the file is large"
    yield from _extra_facts(task)


def _per_sequence(task: Any, value: float) -> str:
    """What a chain's number is of the sequences that it is the mean over, or of the only one."""
    if task.observations.lengths is None:
        return ""
    return f", {numbers.nats(value)} {'in all' if task.observations.n_items == 1 else 'per sequence'}"


def _extra_facts(task: Any) -> Iterable[tuple[str, str]]:
    extras = task.extras
    if extras.weights_name is not None:
        yield "weights", f"column {extras.weights_name}, {numbers.count(task.observations.total_weight)} in all"
    if extras.sequences is not None and extras.sequences.column is not None:
        n, low, high = (numbers.count(f(extras.sequences.lengths)) for f in (len, min, max))
        yield (
            "sequences",
            f"{n} by column {extras.sequences.column}, of {low if low == high else f'{low} to {high}'} rows",
        )
    if extras.codes is not None:
        known = int((extras.codes == extras.codes).sum())
        classes = listed(component_names(task.model.about, len(extras.classes)))
        yield "classes", f"{classes}, known for {known:,} of {len(extras.codes):,} rows (column {extras.label_name})"
