"""The command `onebound`: one group of commands, and one place where every error becomes one line."""

import codecs
import re
import sys
import traceback
import unicodedata
from collections.abc import Sequence
from typing import Any

import click

from onebound.cli import (
    align,
    compare,
    continuing,
    decode,
    demo,
    fit,
    models,
    plan,
    predict,
    report,
    sample,
    score,
    show,
)
from onebound.cli.stopping import Stopped, Terminated, terminable
from onebound.errors import NonFinite, NotMonotone, OneboundError

MENDABLE, OURS = 2, 1  # Exit codes: what the user can mend, our own failure.
INTERRUPTED, TERMINATED = 130, 143  # Ctrl-C and SIGTERM, as shells have it: 128 + the signal.

# What a terminal without UTF-8 is shown instead.
PLAIN = {
    "−": "-",
    "–": "-",
    "×": "x",
    "·": "-",
    "…": "...",
    "≥": ">=",
    "≤": "<=",
    "←": "<-",
    "→": "->",
    "²": "^2",
    "‖": "||",
}
PLAIN |= {"½": "1/2", "±": "+-", "∞": "infinity", "∇": "gradient", "√": "sqrt", "Σ": "Sum"}
GREEK = "GREEK SMALL LETTER ", "GREEK CAPITAL LETTER "

# A range is no word for what somebody types.
OURS_FOR_CLICKS = {"is not a valid integer range": "is no whole number", "is not a valid float range": "is no number"}
OUT_OF_MEMORY = re.compile(r"(can't allocate|not enough) memory", re.IGNORECASE)  # As torch says it.
ITEM = re.compile(r"in item (\d+) \(counted from 0\)")

HELP = """Fit latent-variable models by climbing one bound: EM, EG or a VAE.

L = E_q ln p(z, y) + H(q) = ln p(y) - gap. Every algorithm raises L; every result says how far it is from ln p(y).
"""


class Shell(click.Group):
    """The group; called as a program it never shows a traceback unless asked to (--debug)."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run one command line and leave with its exit code."""
        given = list(sys.argv[1:] if args is None else args)
        _write_anywhere()
        try:
            with terminable():
                code = super().main(given, prog_name or "onebound", complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has what it wanted (| head). Python would complain once more when it closes stdout.
            sys.stdout = None
            sys.exit(0)
        except SystemExit:
            # click saw the closed pipe first, and calls it a failure.
            if type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
                sys.exit(0)
            raise
        except Exception as error:
            if "--debug" in given:
                traceback.print_exc()
            sys.exit(_complain(error))
        sys.exit(code if isinstance(code, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which one needs them."""
        return list(self.commands)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The three commands that one needs first."""
        with formatter.section("Start here"):
            formatter.write("  onebound demo\n  onebound models\n")
            formatter.write("  onebound fit gaussian-mixture faithful.csv --components 2 -o m.safetensors\n")
        with formatter.section("Completion (bash; zsh and fish alike, in their own files)"):
            formatter.write("  echo 'eval \"$(_ONEBOUND_COMPLETE=bash_source onebound)\"' >> ~/.bashrc\n")


def _write_anywhere() -> None:
    def plain(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        return "".join(map(_plain, error.object[error.start : error.end])), error.end

    codecs.register_error("onebound.plain", plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="onebound.plain")


def _plain(character: str) -> str:
    """What stands for it where there is only ASCII: the name of a Greek letter, "?" for what has no better.

    >>> "".join(map(_plain, "Ψ ← ü"))
    'psi <- ?'
    """
    name = unicodedata.name(character, "")
    spelled = next((name.removeprefix(start).lower() for start in GREEK if name.startswith(start)), "?")
    return PLAIN.get(character, character if character.isascii() else spelled)


def _complain(error: Exception) -> int:
    """Print the one line that says what happened; the exit code."""
    message, code = _told(error)
    # The library counts items from 0, a person the rows of a file from 1.
    message = ITEM.sub(lambda found: f"in row {int(found[1]) + 1}", message)
    click.echo("onebound: " + " ".join(message.split()), err=True)
    return code


def _told(error: Exception) -> tuple[str, int]:
    if isinstance(error, click.Abort):
        terminated = isinstance(error.__cause__, Terminated)
        return "stopped; nothing was written.", TERMINATED if terminated else INTERRUPTED
    if isinstance(error, Stopped):
        return error.message, error.code
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "onebound"
        return f"{_sentence(error.format_message())} See {where} --help.", MENDABLE
    if isinstance(error, click.ClickException):
        return error.format_message(), MENDABLE
    if isinstance(error, NotMonotone | NonFinite):
        return f"our own failure, not yours: {error} Run it again with --debug and report what it shows.", OURS
    if isinstance(error, OneboundError):
        return str(error), MENDABLE
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error))):
        return "there is not enough memory for this; ask for fewer components, columns or rows.", MENDABLE
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'cannot read or write'}: {error.strerror}", MENDABLE
    what = f"{type(error).__name__}: {error}"
    return f"our own failure, not yours: {what}. Run it again with --debug and report what it shows.", OURS


def _sentence(text: str) -> str:
    """click's words, in ours where they are made for programmers, with a full stop."""
    for theirs, ours in OURS_FOR_CLICKS.items():
        text = text.replace(theirs, ours)
    return text if text[-1:] in ".?)" else f"{text}."


COMMANDS = (demo, models, fit, compare, plan, show, score, predict, decode, align, sample, report, continuing)

main = Shell(
    name="onebound",
    help=HELP,
    commands={module.command.name or "": module.command for module in COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    invoke_without_command=True,
    callback=lambda: _help_if_alone(click.get_current_context()),
)
click.version_option(package_name="onebound", message="%(package)s %(version)s")(main)


def _help_if_alone(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
