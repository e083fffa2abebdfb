"""`onebound fit`: from a file to a fitted model."""

from functools import partial
from typing import Any

import click
from click.core import ParameterSource

from onebound.cli.command import Command
from onebound.cli.config import CONFIG
from onebound.cli.files import check_data, check_model_name
from onebound.cli.options import (
    ALGORITHM,
    CHECKPOINT,
    CLIMB,
    DATA,
    JSON,
    MODEL,
    NETWORK,
    OF_RECORDINGS,
    OUTPUT_MODEL,
    RECORDINGS,
    REPORT,
    STORIES,
    TABLE,
    algorithm_of,
    climb_settings,
)
from onebound.cli.writing import check_outputs
from onebound.errors import InputError

EXAMPLE = """onebound fit gaussian-mixture faithful.csv --components 2 -o m.safetensors
onebound fit mixed-mixture penguins.csv -k 3 --missing marginalize
onebound fit gaussian-mixture faithful.csv -k 1..4 --report choice.html
onebound fit poisson-hmm series.csv --states 2 --sequence-column day
onebound fit factor-analysis faithful.csv --latent 1
onebound fit vae faithful.csv --hidden 50 --passes 20 --report vae.html
onebound fit ctc train.csv --heldout valid.csv -o m.safetensors"""

RUN = ("max_iter", "tol", "batch_size", "max_seconds", "init", "restarts")


@click.command(cls=Command, name="fit", example=EXAMPLE)
@MODEL
@DATA
@STORIES
@ALGORITHM
@NETWORK
@TABLE
@click.option(
    "--restarts",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Starts; the best is kept.",
)
@CLIMB
@RECORDINGS
@CHECKPOINT
@OUTPUT_MODEL
@REPORT
@CONFIG
@JSON
def command(
    model: str, data: str, algorithm: str, output: str | None, report: str | None, as_json: bool, **how: Any
) -> None:
    """Fit a MODEL to DATA and say how good it is.

    DATA is a csv, tsv, jsonl, parquet, Arrow, npy or npz file, or - for standard input. `onebound models` lists what
    MODEL can be. Ctrl-C stops after the step that the fit is in. Of ctc DATA is a csv with the columns audio (sound files, or
    npy files of frames) and text.
    """
    if model in OF_RECORDINGS:
        from onebound.cli.recordings import fit_recogniser

        fit_recogniser(model, data, output, report, as_json, how | {"algorithm": algorithm})
        return
    refuse_given(model, "heldout", "units")
    del how["heldout"], how["units"]
    checkpoint, every = how.pop("checkpoint"), how.pop("every")
    check_model_name(model)
    check_data(data)
    check_outputs(data, {"--output": output, "--checkpoint": checkpoint, "--report": report})
    climb = {key: how.pop(key) for key in RUN}
    seed, criterion = how.pop("seed"), how.pop("criterion")
    sizes: tuple[Any, ...] = how.pop("components") or (None,)
    _check_sizes(sizes, criterion, checkpoint, how["label"])
    from onebound.cli.loading import entry_named, load_task
    from onebound.cli.running import checkpoint_of, continuing, finish, run, run_choice

    entry = entry_named(model)
    _check_kind(entry, sizes, climb["init"])
    settings = climb_settings(entry, how)
    keep = checkpoint_of(checkpoint, every)
    kept = settings | ({"batch_size": climb["batch_size"]} if entry.under_network and climb["batch_size"] else {})
    task = load_task(model, data, components=sizes[0], seed=seed, settings=kept, **how)
    chosen = algorithm_of(algorithm, settings)
    if len(sizes) > 1:
        choice = run_choice(task, sizes, chosen, criterion or "bic", seed, climb)
        finish(task.of(choice.fit.model), choice.fit, output, report, as_json, choice.as_dict())
        return
    fit = partial(_fit, task, chosen, seed, checkpoint=keep, **climb)
    limits = {"max_iter": climb["max_iter"] if climb["restarts"] == 1 else None, "max_seconds": climb["max_seconds"]}
    finish(task, run(fit, model, go_on=continuing(checkpoint, data, output), **limits), output, report, as_json)


def _check_sizes(sizes: tuple[Any, ...], criterion: str | None, checkpoint: str | None, label: str | None) -> None:
    several = len(sizes) > 1
    if criterion is not None and not several:
        raise click.UsageError("--criterion chooses among several numbers of components: give --components 1..10, say.")
    for option, given in (("--checkpoint", checkpoint), ("--label", label)):
        if several and given is not None:
            raise click.UsageError(f"{option} goes with one number of components; give --components one number.")


def refuse_given(model: str, *names: str) -> None:
    """InputError for the first of these options that was typed, or stands in the --config."""
    from onebound.cli.options import flag

    ctx = click.get_current_context()
    for name in names:
        if ctx.get_parameter_source(name) not in (None, ParameterSource.DEFAULT):
            raise InputError(f"{model} does not take {flag(name)}.")


def _check_kind(entry: Any, sizes: tuple[Any, ...], init: str | None) -> None:
    """What a model under a network has one of, or none."""
    if not entry.under_network:
        return
    if len(sizes) > 1:
        raise InputError(
            f"{entry.name}: ln p(y) has no sum there, so no criterion can choose among several --components. Fit each by "
            "itself, and compare onebound score on rows that none of them saw."
        )
    if init is not None:
        raise InputError(f"{entry.name} starts with fresh networks, told by --seed; leave --init out.")


def _fit(task: Any, algorithm: Any, seed: int, **how: Any) -> Any:
    import torch

    import onebound as ob

    generator = torch.Generator().manual_seed(seed)
    return ob.fit(task.model, task.observations, algorithm, generator=generator, **how)
