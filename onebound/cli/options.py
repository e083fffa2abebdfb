"""The options that several commands share, each written once."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from onebound.cli.sequence_options import sequence_options
from onebound.errors import InputError, did_you_mean
from onebound.models.registry import REGISTRY, Option

ALGORITHMS = {
    "em": "EM",
    "squarem": "SQUAREM",
    "online": "OnlineEM",
    "eg": "EG",
    "vae": "VAE",
    "mcem": "MCEM",
    "hard-em": "HardEM",
    "vem": "VEM",
    "gem": "GEM",
}
OF_RECORDINGS = {"ctc": "A recogniser: labels given recordings, by a network over frames."}
COMPARED = ("em", "eg", "vae", "mcem", "hard-em")  # Where nothing is said: on a mixture the others would be twins.
COMPARED_ON_VECTORS = ("em", "eg", "vae")  # Single values of a vector have no entropy.
CRITERIA = ("bic", "icl", "aic", "heldout")
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Choice(click.Choice[str]):
    """One of a few words; a wrong one hears which it may have meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word itself, or one line that lists them and names the nearest."""
        if value not in self.choices:
            hint = did_you_mean(str(value), self.choices)
            self.fail(f"{value!r} is not one of {', '.join(self.choices)}.{hint}", param, ctx)
        return str(value)


def together(*options: Decorator) -> Decorator:
    """Several options as one decorator, shown in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def names(_ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    """ "a,b" → ("a", "b")."""
    if text is None:
        return None
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise click.BadParameter(f"expected names with commas between them, got {text!r}", param=param)
    return parts


def kinds(ctx: click.Context, param: click.Parameter, text: str | None) -> dict[str, str] | None:
    """ "a=count,b=category" → {"a": "count", "b": "category"}."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in names(ctx, param, text) or ()]
    if any(not (name and equals and kind) for name, equals, kind in pairs):
        raise click.BadParameter(f"expected column=kind,column=kind, got {text!r}", param=param)
    return {name.strip(): kind.strip() for name, _, kind in pairs}


def algorithm_names(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, ...]:
    """ "em,vae" → ("em", "vae"); none where nothing is said."""
    chosen = names(ctx, param, text) or ()
    for name in chosen:
        if name not in ALGORITHMS:
            hint = did_you_mean(name, ALGORITHMS)
            raise click.BadParameter(f"{name!r} is not one of {', '.join(ALGORITHMS)}.{hint}", param=param)
    return tuple(dict.fromkeys(chosen))


def sizes(_ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """ "3" → (3,), "1..4" → (1, 2, 3, 4), "2,4,8" → (2, 4, 8)."""
    if text is None:
        return None
    low, dots, high = text.partition("..")
    parts = (low, high) if dots else tuple(text.split(","))
    if not all(part.strip().isdecimal() and int(part) >= 1 for part in parts) or (dots and int(low) > int(high)):
        raise click.BadParameter(f"expected a whole number from 1, or 1..10, or 2,4,8, got {text!r}", param=param)
    chosen = tuple(range(int(low), int(high) + 1)) if dots else tuple(int(part) for part in parts)
    return tuple(dict.fromkeys(chosen))


def whole_numbers(_ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """ "200,100" → (200, 100)."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise click.BadParameter(f"expected whole numbers from 1 with commas between them, got {text!r}", param=param)
    return tuple(int(part) for part in parts)


def algorithm_of(name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """The algorithm, with its settings as they come but for those given, which are a VAE's; None for auto."""
    from onebound.algorithms import NAMED

    if not settings:
        return None if name == "auto" else NAMED[name]()
    if name not in ("auto", "vae"):
        raise InputError(f"{flag(next(iter(settings)))} is told to a VAE; leave out --algorithm {name}.")
    estimator = {"estimator": "importance"} if settings.get("iwae") else {}
    given = {"draws": "samples", "warm_up": "warm_up", "lr": "lr"}
    return NAMED["vae"](**estimator, **{ours: settings[key] for key, ours in given.items() if key in settings})


def flag(name: str) -> str:
    """A parameter as one types it: warm_up → --warm-up."""
    return f"--{name.replace('_', '-')}"


def finite(_ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A float option that is neither NaN nor infinite."""
    if value is not None and not abs(value) < float("inf"):
        raise click.BadParameter(f"expected a finite number, got {value}", param=param)
    return value


def duration(_ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """ "30s", "5m", "1h" or plain seconds, as seconds."""
    if text is None:
        return None
    number, unit = (text[:-1], text[-1:]) if text[-1:] in UNITS else (text, "s")
    try:
        value = float(number) * UNITS[unit]
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise click.BadParameter(f"expected a time such as 30s, 5m or 1h, got {text!r}", param=param)
    return value


def _model_names(_ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
    """For the shell's completion."""
    return [name for name in (*REGISTRY, *OF_RECORDINGS) if name.startswith(start)]


MODEL = click.argument("model", shell_complete=_model_names)
DATA = click.argument("data", type=click.Path())
FILE = click.argument("file", type=click.Path())

ALGORITHM = click.option(
    "--algorithm",
    metavar="NAME",
    type=Choice(["auto", *ALGORITHMS]),
    default="auto",
    show_default=True,
    help=f"{', '.join(ALGORITHMS)}; auto: the first of em, eg, vae that fits.",
)


def own_options() -> list[str]:
    """The options that only some models take, each once."""
    return list(dict.fromkeys(option.name for entry in REGISTRY.values() for option in entry.options))


def _own_option(name: str) -> Decorator:
    option: Option = next(o for entry in REGISTRY.values() for o in entry.options if o.name == name)
    takers = ", ".join(entry.name for entry in REGISTRY.values() if any(o.name == name for o in entry.options))
    if option.several:
        help = f"{option.help.capitalize()}, default: {option.default} ({takers})."
        return click.option(f"--{name}", metavar=option.metavar, callback=whole_numbers, help=help)
    if not option.choices:
        help = f"{option.help.capitalize()}, default: {option.default} ({takers})."
        return click.option(f"--{name}", metavar=option.metavar, type=click.IntRange(min=1), help=help)
    *front, last = option.choices
    help = f"{', '.join(front)} or {last}, {option.help} ({takers})."
    return click.option(f"--{name}", metavar=option.metavar, help=help)


HOW_MANY = ("components", "--components", "--states", "-k")  # One option: a model of sequences has states.
COMPONENTS = "How many (of a gmm-vae or hmm-vae: those of its prior); default: 2, or one for each class of --label."
OWN = together(*(_own_option(name) for name in own_options()))
STORY = together(click.option(*HOW_MANY, metavar="K", type=click.IntRange(min=1), help=COMPONENTS), OWN)

STORIES = together(
    click.option(
        *HOW_MANY,
        metavar="K",
        callback=sizes,
        help=f"{COMPONENTS} 1..10 or 2,4,8: the best of these by --criterion.",
    ),
    click.option(
        "--criterion",
        metavar="NAME",
        type=Choice(CRITERIA),
        help="How to choose among several --components: bic (default), icl, aic or heldout.",
    ),
    OWN,
)

READING = together(
    click.option(
        "--format", "file_format", metavar="NAME", help="Read DATA as csv, parquet, …, whatever it is called."
    ),
    click.option("--delimiter", metavar="SIGN", help="Between the cells of a csv: a sign, tab or semicolon."),
    click.option("--decimal", metavar="MARK", help="The decimal mark of a csv: . or , (point, comma)."),
)

TABLE = together(
    click.option("--columns", metavar="A,B", callback=names, help="Use these columns, in this order."),
    click.option(
        "--types",
        metavar="A=KIND,...",
        callback=kinds,
        help="Read a column as real, count, binary or category, not as its cells suggest.",
    ),
    click.option(
        "--missing",
        metavar="WHAT",
        type=Choice(["error", "marginalize"]),
        default="error",
        show_default=True,
        help="Empty cells: error, or marginalize (leave them out of the likelihood).",
    ),
    click.option("--weights", metavar="COLUMN", help="How much each row (or sequence) counts, 0 or more."),
    click.option(
        "--label",
        metavar="COLUMN",
        help="Known classes or states; an empty cell is unknown. Where z is a vector they only colour the report.",
    ),
    sequence_options,
    READING,
)

NEW_DATA = together(
    click.option(
        "--missing",
        metavar="WHAT",
        type=Choice(["error", "marginalize"]),
        help="Empty cells: error or marginalize; default: as at fitting.",
    ),
    sequence_options,
    READING,
)

OUTPUT_TABLE = click.option(
    "--output", "-o", type=click.Path(), metavar="FILE", help="Write there: a .csv or a .parquet file."
)

OUTPUT_MODEL = click.option(
    "--output", "-o", type=click.Path(), metavar="FILE", help="Save the fitted model (safetensors)."
)

REPORT = click.option(
    "--report", type=click.Path(), metavar="FILE", help="Write a page for a browser, with pictures (html)."
)

SEED = click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Same seed, same result.",
)

LIMITS = together(
    click.option(
        "--max-iter",
        "--passes",
        "max_iter",
        metavar="N",
        type=click.IntRange(min=1),
        help="Stop after so many iterations; a network's are passes over the data, 100 or more where nothing is said.",
    ),
    click.option(
        "--tol",
        metavar="X",
        type=click.FloatRange(min=0),
        callback=finite,
        help="Stop when L gains less, relative; 0 leaves --max-iter as the only stop.",
    ),
    click.option(
        "--max-seconds",
        metavar="X",
        type=click.FloatRange(min=0, min_open=True),
        callback=finite,
        help="Stop after this time.",
    ),
)

CLIMB = together(
    SEED,
    click.option("--init", metavar="WAY", help="How to start: k-means++ (default), k-means or random."),
    LIMITS,
    click.option(
        "--batch-size",
        metavar="N",
        type=click.IntRange(min=1),
        help="Rows in a step of eg, vae or online; default: all, of online 1000, of networks 128.",
    ),
)

SETTINGS = ("draws", "iwae", "warm_up", "lr")  # Of the climb of a model under a network; they travel with it.
NETWORK = together(
    click.option(
        "--draws", metavar="K", type=click.IntRange(min=1), help="Draws of z a row in a step of a network; default: 1."
    ),
    click.option("--iwae", is_flag=True, default=None, help="Climb the bound of all --draws together (IWAE-K), not L."),
    click.option(
        "--warm-up",
        metavar="N",
        type=click.IntRange(min=1),
        help="Steps in which the weight of KL(q ‖ p(z)) rises from 0 to 1, against dimensions that stay unused.",
    ),
    click.option(
        "--lr",
        metavar="X",
        type=click.FloatRange(min=0, min_open=True),
        callback=finite,
        help="A network's step size; default: 0.001.",
    ),
)

RECORDINGS = together(
    click.option("--heldout", type=click.Path(), metavar="FILE", help="Recordings to tell the error rate of (ctc)."),
    click.option("--units", metavar="WHAT", type=Choice(["words", "letters"]), help="Labels, default: words (ctc)."),
)

CHECKPOINT = together(
    click.option("--checkpoint", type=click.Path(), metavar="FILE", help="Keep the state here, to go on after a stop."),
    click.option("--every", metavar="TIME", callback=duration, help="How often: 30s, 5m, 1h; default: 60s."),
)

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines.")


def climb_settings(entry: Any, how: dict[str, Any]) -> dict[str, Any]:
    """Those of SETTINGS that were given, taken out of `how`; InputError for a model without a network."""
    given = {name: value for name in SETTINGS if (value := how.pop(name)) is not None}
    if given and not entry.under_network:
        takers = ", ".join(other.name for other in REGISTRY.values() if other.under_network)
        raise InputError(f"{entry.name} does not take {flag(next(iter(given)))}; it goes with {takers}.")
    if given.get("iwae") and given.get("draws", 1) < 2:
        raise InputError("--iwae needs --draws 2 or more: the bound of one draw is L.")
    if given.get("iwae") and "warm_up" in given:
        raise InputError("--iwae and --warm-up exclude each other: the bound of several draws has no KL apart.")
    return given


def model_options(entry: Any, **given: Any) -> dict[str, Any]:
    """The options that were given, if the model knows them all."""
    wanted = {name: value for name, value in given.items() if value is not None}
    for name in wanted:
        option = next((option for option in entry.options if option.name == name), None)
        if option is None:
            takes = ", ".join(f"--{known.name}" for known in entry.options) or "no options of its own"
            raise InputError(f"{entry.name} does not take --{name}; it takes {takes}.")
        if option.choices and wanted[name] not in option.choices:
            raise InputError(
                f"--{name}: must be one of {', '.join(option.choices)}, got {wanted[name]!r}."
                f"{did_you_mean(str(wanted[name]), option.choices)}"
            )
    return wanted
