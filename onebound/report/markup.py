"""The HTML of a page, piece by piece; whatever text comes in is escaped here."""

from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from matplotlib.figure import Figure

from onebound.errors import InputError
from onebound.report.style import VARIABLES
from onebound.report.svg import inline_svg
from onebound.store import replacing


def document(title: str, body: str) -> str:
    """A whole page with its style sheet inside."""
    css = resources.files("onebound.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{variables()}{css}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def variables(scope: str = ":root") -> str:
    """The colours' variables for what `scope` selects, light and dark."""
    light = "".join(f" {name}: {colour};" for colour, (name, _) in VARIABLES.items())
    dark = "".join(f" {name}: {value};" for name, value in VARIABLES.values())
    # Only on a screen: paper is white whatever its reader prefers.
    return f"{scope} {{{light} }}\n@media screen and (prefers-color-scheme: dark) {{ {scope} {{{dark} }} }}\n"


def figure(drawing: Figure, label: str, prefix: str, caption: str) -> str:
    """A picture with its caption; `label` is what a screen reader says, `prefix` keeps its ids apart."""
    return f"<figure>{inline_svg(drawing, label, prefix)}<figcaption>{escape(caption)}</figcaption></figure>"


def table(caption: str, heads: Sequence[str], rows: Sequence[str], *, style: str = "") -> str:
    """A table; `heads` and `rows` are HTML. Wider than a phone it scrolls alone, by keyboard too (tabindex)."""
    cells = "".join(f'<th scope="col">{head}</th>' for head in heads)
    attribute = f' class="{style}"' if style else ""
    # The caption stands outside, or it would scroll away with the table.
    return (
        f'{note(caption)}<div class="wide" role="region" aria-label="{escape(caption)}" tabindex="0">'
        f"<table{attribute}><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def table_row(head: str, cells: Sequence[str], *, colour: str | None = None, style: str = "") -> str:
    """One row: its head, with a chip of its colour, and its cells."""
    opening = f'<tr class="{style}">' if style else "<tr>"
    mark = chip(colour) if colour else ""
    inner = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'{opening}<th scope="row">{mark}{escape(head)}</th>{inner}</tr>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values, one below the other."""
    inner = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="facts">{inner}</dl>'


def chip(colour: str) -> str:
    """A dot of one of the pictures' colours."""
    return f'<span class="chip" style="color: var({VARIABLES[colour][0]})"></span>'


def note(text: str) -> str:
    """A small paragraph."""
    return f'<p class="note">{escape(text)}</p>'


def write_whole(path: Path, text: str) -> None:
    """Write the page whole or not at all: there is the old file or the new one. InputError where that cannot be done."""
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise InputError(
            f"report: path must be a file in a folder that can be written, got {str(path)!r} "
            f"({error.strerror or error}). Choose another path."
        ) from error
