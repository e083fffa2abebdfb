"""`onebound score`: how well a saved model explains data, row by row or in all."""

import math
from collections.abc import Iterator
from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.files import check_table_output
from onebound.cli.options import DATA, FILE, JSON, NEW_DATA, OUTPUT_TABLE
from onebound.errors import InputError

EXAMPLE = """onebound score m.safetensors faithful.csv
onebound score m.safetensors faithful.csv --bits -o scores.parquet"""

DRAWS = 1000
READINGS = ("bound", "evidence", "gap")  # As in `fit --json`: L, ln p(y), and what lies between them.


@click.command(cls=Command, name="score", example=EXAMPLE)
@FILE
@DATA
@click.option("--items", is_flag=True, help="One line a row (or sequence), as csv; -o implies it.")
@click.option("--bits", is_flag=True, help="Also -L and -ln p(y) in bits, per row and per column.")
@click.option(
    "--draws",
    metavar="K",
    type=click.IntRange(min=2),
    help="Of a model under a network: draws a row that ln p(y) is estimated from; default: 1000.",
)
@click.option("--weights", metavar="COLUMN", help="How much each row (or sequence) counts in total and mean.")
@NEW_DATA
@OUTPUT_TABLE
@JSON
def command(
    file: str,
    data: str,
    items: bool,
    bits: bool,
    draws: int | None,
    output: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Say how well the model in FILE explains DATA, in nats.

    L is the bound, ln p(y) the evidence; with an exact posterior they are equal. Known classes are not used. Under a
    network (vae, …) both are estimates by draws, that of ln p(y) from below (IWAE-K). Of a recogniser (ctc) DATA is a
    csv with the columns audio and text, and the label error rate is told too.
    """
    check_table_output(output, file, data)
    from onebound.cli.recordings import is_recogniser, score_recogniser

    if is_recogniser(file):
        from onebound.cli.fit import refuse_given

        refuse_given("ctc", "items", "bits", "draws", "output", *how)
        score_recogniser(file, data, as_json)
        return
    from onebound.cli.rows import write_rows
    from onebound.cli.saved import load_both

    task = load_both(file, data, **how)
    sums = Sums(len(task.table.columns), task.observations.lengths is not None)
    k = check_draws(task, draws)
    blocks = scored(task, sums, bits, k)
    if items or output is not None:
        write_rows(blocks, output)
    for _ in blocks:  # What is not written is added up all the same.
        pass
    if as_json or not items:
        _tell(task, sums.totals() | ({} if k is None else {"draws": k}), bits, output, as_json)


def check_draws(task: Any, draws: int | None) -> int | None:
    """How many draws ln p(y) is estimated from; None where it is exact, and InputError for draws there."""
    from onebound.report.terms import terms_of

    if not terms_of(task.model).is_exact:
        return draws or DRAWS
    if draws is not None:
        raise InputError(f"{task.name}: ln p(y) is exact; leave --draws out.")
    return None


class Sums:
    """Σ weight · value over the blocks of rows, or of sequences, that were seen."""

    def __init__(self, n_columns: int, of_sequences: bool = False) -> None:
        self.n_columns, self.of_sequences, self.weight, self.rows = n_columns, of_sequences, 0.0, 0.0
        self.total = dict.fromkeys(READINGS, 0.0)

    def add(self, per_item: dict[str, Any], weights: Any, lengths: Any = 1) -> None:
        """Take in a block; a row of weight 0 adds nothing, even where its value is −inf. `lengths`: rows of each item."""
        counted = weights > 0
        self.weight += float(weights.sum())
        self.rows += float((weights * lengths).sum())
        for name in READINGS:
            self.total[name] += float(per_item[name][counted] @ weights[counted])

    def totals(self) -> dict[str, dict[str, float]]:
        """In all, the mean per item (of sequences: per row too), and −L and −ln p(y) in bits per item and per dimension."""
        mean = {name: value / self.weight for name, value in self.total.items()}
        per_row = {name: value / self.rows for name, value in self.total.items()}
        row_bits = _bits(per_row)
        per_dimension = {name: value / self.n_columns for name, value in row_bits.items()}
        found = {"total": self.total, "mean": mean, "bits_per_item": _bits(mean), "bits_per_dimension": per_dimension}
        return found | ({"per_row": per_row, "bits_per_row": row_bits} if self.of_sequences else {})


def _bits(mean: dict[str, float]) -> dict[str, float]:
    return {name: -mean[name] / math.log(2) for name in ("bound", "evidence")}


def scored(task: Any, sums: Sums, bits: bool, draws: int | None) -> Iterator[dict[str, Any]]:
    """L, ln p(y) and gap of every item, block by block, and added to `sums`; −inf for what the model cannot make."""
    import torch

    import onebound as ob
    from onebound.cli.rows import BLOCK_ROWS

    task.model.keep_infeasible = True
    generator = torch.Generator().manual_seed(0)
    for block in task.observations.blocks(BLOCK_ROWS):
        bound = ob.bound(task.model, block, samples=draws or DRAWS, generator=generator)
        values = {"bound": bound.value, "evidence": bound.evidence, "gap": bound.gap}
        per_item = {name: value.numpy() for name, value in values.items()}
        lengths = None if block.lengths is None else block.lengths.numpy()
        sums.add(per_item, bound.weights.numpy(), 1 if lengths is None else lengths)
        numbers = range(block.first, block.first + block.n_items)
        called = [task.extras.sequences.name(n) for n in numbers] if lengths is not None else []
        in_order = range(numbers.start + 1, numbers.stop + 1)
        heads = {"row": in_order} if lengths is None else {"sequence": called, "rows": lengths}
        yield item_columns(heads, per_item, sums.n_columns, bits, lengths)


def item_columns(
    heads: dict[str, Any], per_item: dict[str, Any], n_columns: int, bits: bool, lengths: Any = None
) -> dict[str, Any]:
    """One entry a row of the data, or a sequence of these lengths, after its `heads`: rows are counted from 1."""
    columns: dict[str, Any] = {**heads, **per_item}
    if lengths is not None:
        columns |= {f"{name}_per_row": per_item[name] / lengths for name in ("bound", "evidence")}
    if bits:
        for name in ("bound", "evidence"):
            in_bits = -per_item[name] / math.log(2)
            columns[f"bits_{name}"] = in_bits
            columns[f"bits_{name}_per_dimension"] = in_bits / n_columns / (1 if lengths is None else lengths)
    return columns


def _tell(task: Any, found: dict[str, Any], bits: bool, output: str | None, as_json: bool) -> None:
    if as_json:
        from onebound.cli.writing import print_json

        kept = {name: of for name, of in found.items() if bits or not name.startswith("bits")}
        n_items = task.observations.n_items
        rows = {"n_rows": task.table.n_rows} if "per_row" in found else {}
        print_json({"model": task.name, "data": task.table.path, "n_items": n_items, **rows, **kept})
        return
    from onebound.cli.summaries import show_score

    show_score(task, found, bits, output)
