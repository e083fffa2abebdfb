"""`onebound score`: how well a saved model explains data, row by row or in all."""

import math
from collections.abc import Iterator
from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.files import check_table_output
from onebound.cli.options import DATA, FILE, JSON, NEW_DATA, OUTPUT_TABLE

EXAMPLE = """onebound score m.safetensors faithful.csv
onebound score m.safetensors faithful.csv --bits -o scores.parquet"""

READINGS = ("bound", "evidence", "gap")  # As in `fit --json`: L, ln p(y), and what lies between them.


@click.command(cls=Command, name="score", example=EXAMPLE)
@FILE
@DATA
@click.option("--items", is_flag=True, help="One line a row, as csv; -o implies it.")
@click.option("--bits", is_flag=True, help="Also -L and -ln p(y) in bits, per row and per column.")
@click.option("--weights", metavar="COLUMN", help="How much each row counts in total and mean.")
@NEW_DATA
@OUTPUT_TABLE
@JSON
def command(file: str, data: str, items: bool, bits: bool, output: str | None, as_json: bool, **how: Any) -> None:
    """Say how well the model in FILE explains DATA, in nats.

    L is the bound, ln p(y) the evidence; with an exact posterior they are equal. Known classes are not used.
    """
    check_table_output(output, file, data)
    from onebound.cli.rows import write_rows
    from onebound.cli.saved import load_both

    task = load_both(file, data, **how)
    sums = Sums(len(task.table.columns))
    blocks = scored(task, sums, bits)
    if items or output is not None:
        write_rows(blocks, output)
    for _ in blocks:  # What is not written is added up all the same.
        pass
    if as_json or not items:
        _tell(task, sums.totals(), bits, output, as_json)


class Sums:
    """Σ weight · value over the blocks of rows that were seen."""

    def __init__(self, n_columns: int) -> None:
        self.n_columns, self.weight = n_columns, 0.0
        self.total = dict.fromkeys(READINGS, 0.0)

    def add(self, per_item: dict[str, Any], weights: Any) -> None:
        """Take in a block; a row of weight 0 adds nothing, even where its value is −inf."""
        counted = weights > 0
        self.weight += float(weights.sum())
        for name in READINGS:
            self.total[name] += float(per_item[name][counted] @ weights[counted])

    def totals(self) -> dict[str, dict[str, float]]:
        """In all, the mean per item, and −L and −ln p(y) in bits per item and per dimension."""
        mean = {name: value / self.weight for name, value in self.total.items()}
        bits = {name: -mean[name] / math.log(2) for name in ("bound", "evidence")}
        per_dimension = {name: value / self.n_columns for name, value in bits.items()}
        return {"total": self.total, "mean": mean, "bits_per_item": bits, "bits_per_dimension": per_dimension}


def scored(task: Any, sums: Sums, bits: bool) -> Iterator[dict[str, Any]]:
    """L, ln p(y) and gap of every row, block by block, and added to `sums`; −inf for what the model cannot make."""
    import onebound as ob
    from onebound.cli.rows import BLOCK_ROWS

    task.model.keep_infeasible = True
    for block in task.observations.blocks(BLOCK_ROWS):
        bound = ob.bound(task.model, block)
        values = {"bound": bound.value, "evidence": bound.evidence, "gap": bound.gap}
        per_item = {name: value.numpy() for name, value in values.items()}
        sums.add(per_item, bound.weights.numpy())
        yield item_columns(per_item, block.first, sums.n_columns, bits)


def item_columns(per_item: dict[str, Any], first: int, n_columns: int, bits: bool) -> dict[str, Any]:
    """One entry a row of the data, rows counted from 1; `first` rows came before."""
    n = len(per_item["bound"])
    columns: dict[str, Any] = {"row": range(first + 1, first + n + 1), **per_item}
    if bits:
        for name in ("bound", "evidence"):
            in_bits = -per_item[name] / math.log(2)
            columns[f"bits_{name}"] = in_bits
            columns[f"bits_{name}_per_dimension"] = in_bits / n_columns
    return columns


def _tell(task: Any, found: dict[str, Any], bits: bool, output: str | None, as_json: bool) -> None:
    if as_json:
        from onebound.cli.writing import print_json

        kept = found if bits else {"total": found["total"], "mean": found["mean"]}
        print_json({"model": task.name, "data": task.table.path, "n_items": task.table.n_rows, **kept})
        return
    from onebound.cli.summaries import show_score

    show_score(task, found, bits, output)
