"""--config FILE: a command's options from a TOML file, with the names that they have on the command line."""

import tomllib
from pathlib import Path
from typing import Any

import click

from onebound.errors import InputError, did_you_mean

LEFT_OUT = ("config", "help", "debug")


def read_config(path: str, command: click.Command) -> dict[str, Any]:
    """The options in the file by parameter, as if they had been typed; InputError for a key that is no option."""
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no TOML: {error}") from error
    by_key = {
        name.lstrip("-"): option
        for option in command.params
        if isinstance(option, click.Option) and option.name not in LEFT_OUT
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("--")
    }
    given = {}
    for key, value in found.items():
        if key == "data" and any(p.name == "data" for p in command.params):  # an argument, but it may stand here too
            given["data"] = _as_typed(path, key, value, False)
            continue
        option = by_key.get(key.replace("_", "-"))
        if option is None:
            hint = did_you_mean(key, by_key) or f" There are {', '.join(sorted(by_key))}."
            raise InputError(f"{path}: {key!r} is no option of onebound {command.name}.{hint}")
        given[str(option.name)] = _as_typed(path, key, value, option.is_flag)
    return given


def _as_typed(path: str, key: str, value: Any, is_flag: bool) -> Any:
    """The text that would stand on the command line: a list with commas, a table as name=value."""
    if isinstance(value, bool) or is_flag:
        if isinstance(value, bool) and is_flag:
            return value
        raise InputError(f"{path}: {key} = {value!r}: expected {'true or false' if is_flag else 'no true or false'}.")
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{name}={of}" for name, of in value.items())
    return str(value)


def _take(ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
    if path is not None:
        ctx.default_map = read_config(path, ctx.command)


CONFIG = click.option(
    "--config",
    type=click.Path(),
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_take,
    help="Take options from a TOML file (latent = 8, hidden = [200, 200]); those typed here win.",
)
