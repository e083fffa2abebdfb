"""`onebound score`: how well a saved model explains data, row by row or in all."""

import math
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
    per_item, weights = scores(task)
    if items or output is not None:
        write_rows(item_columns(per_item, task.table, bits), output)
    if as_json or not items:
        _tell(task, totals(per_item, weights, len(task.table.columns)), bits, output, as_json)


def scores(task: Any) -> tuple[dict[str, Any], Any]:
    """L, ln p(y) and gap of every row, (N,) each, and the weights; −inf for what the model cannot make."""
    import onebound as ob

    task.model.keep_infeasible = True
    bound = ob.bound(task.model, task.observations)
    values = {"bound": bound.value, "evidence": bound.evidence, "gap": bound.gap}
    return {name: value.numpy() for name, value in values.items()}, bound.weights.numpy()


def item_columns(per_item: dict[str, Any], table: Any, bits: bool) -> dict[str, Any]:
    """One entry a row of the data, rows counted from 1."""
    columns: dict[str, Any] = {"row": range(1, table.n_rows + 1), **per_item}
    if bits:
        for name in ("bound", "evidence"):
            in_bits = -per_item[name] / math.log(2)
            columns[f"bits_{name}"] = in_bits
            columns[f"bits_{name}_per_dimension"] = in_bits / len(table.columns)
    return columns


def totals(per_item: dict[str, Any], weights: Any, n_columns: int) -> dict[str, dict[str, float]]:
    """Σ weight · value, the mean per item, and −L and −ln p(y) in bits per item and per dimension."""
    counted = weights > 0
    total = {name: float(per_item[name][counted] @ weights[counted]) for name in READINGS}
    mean = {name: value / float(weights.sum()) for name, value in total.items()}
    bits = {name: -mean[name] / math.log(2) for name in ("bound", "evidence")}
    per_dimension = {name: value / n_columns for name, value in bits.items()}
    return {"total": total, "mean": mean, "bits_per_item": bits, "bits_per_dimension": per_dimension}


def _tell(task: Any, found: dict[str, Any], bits: bool, output: str | None, as_json: bool) -> None:
    if as_json:
        from onebound.cli.writing import print_json

        kept = found if bits else {"total": found["total"], "mean": found["mean"]}
        print_json({"model": task.name, "data": task.table.path, "n_items": task.table.n_rows, **kept})
        return
    from onebound.cli.summaries import show_score

    show_score(task, found, bits, output)
