"""`onebound demo`: five algorithms climb one bound on Old Faithful, from one start."""

import click

from onebound.cli.command import Command
from onebound.cli.options import COMPARED

PAGE = "onebound-demo.html"
COMPONENTS = 2
START = 4  # A seed whose two random rows are a poor start: k-means++ would leave little to climb.
SOURCE = "Old Faithful geyser, 272 eruptions (Azzalini & Bowman 1990; R datasets::faithful)"


@click.command(cls=Command, name="demo", example="onebound demo")
@click.option("--max-iter", type=click.IntRange(min=1), hidden=True)
def command(max_iter: int | None) -> None:
    """Watch EM, EG, VAE, MCEM and hard EM climb one bound.

    The data, 272 eruptions of the Old Faithful geyser, are part of the package. Prints a table and writes
    onebound-demo.html to the current folder.
    """
    import torch

    import onebound as ob
    from onebound.cli.compare import fits_from_one_start, split_by_plan
    from onebound.cli.loading import entry_named
    from onebound.cli.tables import show_demo
    from onebound.cli.writing import check_writable
    from onebound.data import old_faithful
    from onebound.observations import Observations
    from onebound.report import write_comparison

    page = check_writable(PAGE)
    table = old_faithful()
    entry = entry_named("gaussian-mixture")
    model = entry.build(table, COMPONENTS, covariance="full")
    y = entry.observations(table)
    observations = Observations.of(y, names=table.names)
    model.initialize(observations, torch.Generator().manual_seed(START), "random")
    allowed, _ = split_by_plan(model, COMPARED)
    evidence = float(ob.bound(model, observations).evidence.mean())
    fits = fits_from_one_start(model, observations, allowed, {"max_iter": max_iter}, START)
    write_comparison(page, "One bound, five climbs", fits, y, table.names, subtitle=SOURCE)
    show_demo(SOURCE, evidence, fits, page)
