"""The command `onebound`: one group of commands, and one place where every error becomes one line."""

import codecs
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from onebound.cli import compare, demo, fit, models, plan
from onebound.errors import OneboundError

MENDABLE, OURS, INTERRUPTED = (
    2,
    1,
    130,
)  # Exit codes: what the user can mend, our own failure, Ctrl-C as shells have it.

# What a terminal without UTF-8 is shown instead.
PLAIN = {"−": "-", "–": "-", "×": "x", "·": "-", "…": "...", "≥": ">=", "≤": "<=", "Σ": "Sum", "μ": "mu", "π": "pi"}

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
            code = super().main(given, prog_name or "onebound", complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has what it wanted (| head). Python would complain once more when it closes stdout.
            sys.stdout = None
            sys.exit(0)
        except Exception as error:
            if "--debug" in given:
                traceback.print_exc()
            sys.exit(_complain(error))
        sys.exit(code if isinstance(code, int) else 0)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The three commands that one needs first."""
        with formatter.section("Start here"):
            formatter.write("  onebound demo\n  onebound models\n")
            formatter.write("  onebound fit gaussian-mixture faithful.csv --components 2 -o m.safetensors\n")


def _write_anywhere() -> None:
    def plain(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        return "".join(PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end

    codecs.register_error("onebound.plain", plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="onebound.plain")


def _complain(error: Exception) -> int:
    """Print the one line that says what happened; the exit code."""
    if isinstance(error, click.Abort):
        message, code = "stopped; nothing was written.", INTERRUPTED
    elif isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "onebound"
        message, code = f"{_sentence(error.format_message())} See {where} --help.", MENDABLE
    elif isinstance(error, click.ClickException):
        message, code = error.format_message(), MENDABLE
    elif isinstance(error, OneboundError):
        message, code = str(error), MENDABLE
    elif isinstance(error, OSError) and error.strerror:
        message, code = f"{error.filename or 'cannot read or write'}: {error.strerror}", MENDABLE
    else:
        what = f"{type(error).__name__}: {error}"
        message = f"our own failure, not yours: {what}. Run it again with --debug and report what it shows."
        code = OURS
    click.echo("onebound: " + " ".join(message.split()), err=True)
    return code


def _sentence(text: str) -> str:
    return text if text[-1:] in ".?)" else f"{text}."


main = Shell(
    name="onebound",
    help=HELP,
    commands={c.name or "": c for c in (demo.command, fit.command, compare.command, plan.command, models.command)},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    invoke_without_command=True,
    callback=lambda: _help_if_alone(click.get_current_context()),
)
click.version_option(package_name="onebound", message="%(package)s %(version)s")(main)


def _help_if_alone(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
