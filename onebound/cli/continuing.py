"""`onebound continue`: go on with a fit that was stopped, or with a model that was saved."""

from functools import partial
from typing import Any

import click

from onebound.cli.command import Command
from onebound.cli.files import check_data
from onebound.cli.options import (
    ALGORITHMS,
    CHECKPOINT,
    DATA,
    FILE,
    JSON,
    LIMITS,
    NEW_DATA,
    OUTPUT_MODEL,
    REPORT,
    SEED,
    Choice,
    algorithm_of,
)
from onebound.cli.writing import check_outputs
from onebound.errors import InputError

EXAMPLE = """onebound continue m.safetensors faithful.csv -o better.safetensors
onebound continue run.checkpoint faithful.csv -o m.safetensors"""


@click.command(cls=Command, name="continue", example=EXAMPLE)
@FILE
@DATA
@click.option(
    "--algorithm",
    metavar="NAME",
    type=Choice(["auto", *ALGORITHMS]),
    help="For a saved model; default: as before.",
)
@LIMITS
@SEED
@NEW_DATA
@CHECKPOINT
@OUTPUT_MODEL
@REPORT
@JSON
def command(file: str, data: str, output: str | None, report: str | None, as_json: bool, **how: Any) -> None:
    """Go on with the fit in FILE, on the same DATA.

    FILE is a checkpoint, which goes on to the very bits of a fit that was never stopped (and is kept up to date, unless
    --checkpoint names another), or a saved model, from whose parameters a new climb begins.
    """
    from onebound.cli.saved import load_again, open_model_file

    climb = {key: how.pop(key) for key in ("max_iter", "tol", "max_seconds")}
    algorithm, seed, every, checkpoint = (how.pop(key) for key in ("algorithm", "seed", "every", "checkpoint"))
    check_data(data)
    opened = open_model_file(file)
    if opened.is_checkpoint:
        if algorithm is not None:
            raise InputError(f"{file}: is a checkpoint, which goes on with its own algorithm; leave --algorithm out.")
        checkpoint = checkpoint or file
    check_outputs(data, {"--output": output, "--checkpoint": checkpoint, "--report": report})
    from onebound.cli.options import OF_RECORDINGS
    from onebound.cli.recordings import continue_recogniser

    if opened.about["model"] in OF_RECORDINGS:
        from onebound.cli.fit import refuse_given

        refuse_given("ctc", *how, "algorithm")
        continue_recogniser(opened, data, checkpoint, every, output, report, as_json, seed=seed, **climb)
        return
    from onebound.cli.running import checkpoint_of, continuing, finish, run

    keep = checkpoint_of(checkpoint, every)
    task = load_again(opened, data, **how)
    start = partial(_resume, file) if opened.is_checkpoint else partial(_go_on, task, algorithm, seed)
    fit = partial(start, task.observations, checkpoint=keep, **climb)
    limits = {key: climb[key] for key in ("max_iter", "max_seconds")}
    finish(task, run(fit, task.name, go_on=continuing(checkpoint, data, output), **limits), output, report, as_json)


def _resume(file: str, observations: Any, **how: Any) -> Any:
    import onebound as ob

    return ob.resume(file, observations, **how)


def _go_on(task: Any, algorithm: str | None, seed: int, observations: Any, **how: Any) -> Any:
    import torch

    import onebound as ob

    before = (task.model.about.get("fit") or {}).get("algorithm", "")
    named = {name: option for option, name in ALGORITHMS.items()}
    settings = {key: value for key, value in task.settings.items() if key != "batch_size"}
    chosen = algorithm_of(algorithm or named.get(before, "auto"), settings)
    generator, batch_size = torch.Generator().manual_seed(seed), task.settings.get("batch_size")
    return ob.fit(task.model, observations, chosen, batch_size=batch_size, generator=generator, **how)
