"""Numbers with as many digits as they deserve, for tables."""

import math


def format_number(value: float, digits: int = 3) -> str:
    """So many significant digits, without zeros at the end: 0.0046, 70, 1.31e4."""
    if not math.isfinite(value):
        return f"{value}"
    value += 0.0  # zero has no sign
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    exponent = int(power)
    if -5 < exponent < 3:
        mantissa = f"{value:.{max(digits - 1 - exponent, 0)}f}"
    text = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return text if -5 < exponent < 3 else f"{text}e{exponent}"


def format_with_error(value: float, error: float | None = None) -> str:
    """A number with its error's first digit, or two if that is a 1: 0.0053 ± 0.0004."""
    if error is None or not (math.isfinite(value) and math.isfinite(error)):
        return format_number(value)
    exponent = int(f"{max(abs(value), error):.2e}".partition("e")[2])
    scale = 0 if -5 < exponent < 3 else exponent
    value, error = value / 10.0**scale, error / 10.0**scale
    mantissa, _, place = f"{error:.1e}".partition("e")
    decimals = 2 if error == 0 else (mantissa[0] == "1") - int(place)
    # The value never has more than four digits.
    decimals = max(min(decimals, 3 - exponent + scale), 0)
    text = f"{value:.{decimals}f} ± {error:.{decimals}f}"
    return f"({text})e{scale}" if scale else text


def format_percent(share: float, error: float | None = None, sign: str = "") -> str:
    """A share in percent, to one decimal, or two where the error is that small."""
    if error is None or math.isnan(error):
        return f"{100 * share:{sign}.1f}"
    decimals = 2 if 0 < error < 0.0005 else 1
    return f"{100 * share:{sign}.{decimals}f} ± {100 * error:.{decimals}f}"


def format_difference(share: float, error: float | None = None) -> str:
    """The same with its sign."""
    return format_percent(share, error, sign="+")
