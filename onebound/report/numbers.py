"""Numbers as a person reads them: few digits, a true minus sign, thousands apart."""

from typing import SupportsFloat

EXACT = 1e-10  # Both readings of the bound agree to this, relative: a smaller gap is rounding.
ABSENT = "–"


def signed(text: str) -> str:
    """The text with a true minus sign, which lines up with + and digits where a hyphen does not.

    >>> signed("-4.15")
    '−4.15'
    """
    return text.replace("-", "−")


def nats(value: float | None) -> str:
    """A bound or an evidence, in nats per row: 4 decimals, because 0.001 nats is what one compares by.

    >>> nats(-4.155312), nats(None)
    ('−4.1553', '–')
    """
    return ABSENT if value is None else signed(f"{value:.4f}")


def gap(value: float | None) -> str:
    """A gap KL ≥ 0, in nats per row; never a number that only shows rounding.

    >>> gap(3e-15), gap(2e-6), gap(0.01234)
    ('0', '< 0.0001', '0.0123')
    """
    if value is None:
        return ABSENT
    if abs(value) < EXACT:
        return "0"
    return "< 0.0001" if 0 < value < 1e-4 else nats(value)


def count(value: float | None) -> str:
    """A number of rows or of passes.

    >>> count(2031.0), count(12.34)
    ('2,031', '12.3')
    """
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if float(value).is_integer() or value >= 1000 else f"{value:,.1f}"


def seconds(value: float | None) -> str:
    """A time in seconds, to two digits.

    >>> seconds(0.1), seconds(1.26), seconds(83.6)
    ('0.10', '1.3', '84')
    """
    if value is None:
        return ABSENT
    if value < 0.001:
        return "< 0.001"
    return f"{value:,.0f}" if value >= 9.95 else f"{value:#.2g}"


def parameter(value: SupportsFloat, digits: int = 4) -> str:
    """A parameter of a model: four digits in a table, three in a sentence.

    >>> parameter(54.47851), parameter(4.29), parameter(-0.000123456), parameter(1234567.0), parameter(0.0)
    ('54.48', '4.290', '−0.0001235', '1,234,567', '0')
    >>> parameter(3733.1, 3), parameter(999.9, 3)
    ('3,733', '1,000')
    """
    number = float(value)
    if number == 0:
        return "0"
    whole = 10**digits - 0.5 <= abs(number) < 1e9
    return signed(f"{number:,.0f}" if whole else f"{number:#.{digits}g}".rstrip("."))


def share(value: SupportsFloat) -> str:
    """A share of the whole, in percent; its sign never stands alone on the next line.

    >>> [share(v).replace("\\xa0", " ") for v in (0.3559, 0.004, 1e-5, 0.0, 0.9996, 1.0)]
    ['36 %', '0.4 %', '< 0.1 %', '0 %', '> 99.9 %', '100 %']
    """
    percent = 100 * float(value)
    if 0 < percent < 0.1 or 99.9 < percent < 100:
        return "<\u00a00.1\u00a0%" if percent < 50 else ">\u00a099.9\u00a0%"
    return f"{percent:.1f}\u00a0%" if 0 < percent < 1 or 99 < percent < 100 else f"{percent:.0f}\u00a0%"


def quantity(what: str, value: SupportsFloat) -> str:
    """A parameter as its kind is read: a probability to 4 decimals, everything else to 4 digits.

    >>> quantity("probability", 2e-25), quantity("probability", 0.46667), quantity("rate", 2.4)
    ('< 0.0001', '0.4667', '2.400')
    """
    if what != "probability":
        return parameter(value)
    return "< 0.0001" if 0 < float(value) < 1e-4 else f"{float(value):.4f}"
