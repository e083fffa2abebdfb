"""A figure as SVG inside a page: its colours are the page's variables, its text is text, its ids are its own."""

import html
import io
import re

from matplotlib.figure import Figure

from onebound.report.style import VARIABLES, isolated

_LONG_NUMBER = re.compile(r"(-?\d+\.\d\d)\d+")
_COLOUR = re.compile(r": (#[0-9a-f]{6})\b")


def inline_svg(figure: Figure, label: str, prefix: str) -> str:
    """The figure as one <svg> element for an HTML page.

    label: what a screen reader says; prefix: put before every id, so that two figures of a page never share one.
    The page's style sheet gives the width (100 %), the fonts and the variables behind the colours.
    """
    drawing = io.StringIO()
    # Text stays text: it takes the page's font and colour, can be searched, and is a tenth of the size of its outlines.
    with isolated(**{"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(drawing, format="svg", transparent=True, metadata={"Date": None})
    text = drawing.getvalue()
    body = text[text.index("</metadata>") + len("</metadata>") : text.rindex("</svg>")]
    width, height = (72 * inches for inches in figure.get_size_inches())
    opening = f'<svg class="plot" role="img" aria-label="{html.escape(label)}" viewBox="0 0 {width:g} {height:g}">'
    return opening + _for_html(body, prefix) + "</svg>"


def _for_html(body: str, prefix: str) -> str:
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # It would style the whole page: page.css has it.
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # Names of groups, never referred to.
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'xlink:href="#', f'href="#{prefix}-', body)
    body = body.replace("url(#", f"url(#{prefix}-")
    body = re.sub(r' transform="rotate\(-0 [^"]*"', "", body)
    body = re.sub(r" font-family: [^;\"]*;", "", body)
    body = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda part: _LONG_NUMBER.sub(r"\1", part.group()), body)
    body = _COLOUR.sub(_variable, body)
    return re.sub(r"\s*\n\s*", " ", body)


def _variable(colour: re.Match[str]) -> str:
    name = VARIABLES.get(colour.group(1))
    return f": var({name[0]})" if name else colour.group()
