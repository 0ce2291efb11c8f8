"""Numbers with as many digits as they deserve, for tables."""

import math


def format_number(value: float, digits: int = 3) -> str:
    """A number without leading or trailing zeros: .0046, 70, 1.31e4.

    Example:
      >>> [format_number(x) for x in (0.0046, 2.043, 70, 13_100, -0.00001234, 0)]
      ['.0046', '2.04', '70', '1.31e4', '-1.23e-5', '0']
    """
    if not math.isfinite(value):
        return f"{value}"
    if value == 0:
        return "0"
    exponent = _exponent(value, digits)
    if _is_plain(exponent):
        decimals = max(digits - 1 - exponent, 0)
        return _without_zeros(f"{value:.{decimals}f}")
    mantissa = _without_zeros(f"{value / 10.0**exponent:.{digits - 1}f}")
    return f"{mantissa}e{exponent}"


def format_with_error(value: float, error: float | None) -> str:
    """A number with its error: .0053 ± .0004, (1.31 ± .02)e4.

    The error has one significant digit, two if the first is a 1.

    Example:
      >>> format_with_error(0.0053417, 0.00037), format_with_error(13_100, 172.0)
      ('.0053 ± .0004', '(1.310 ± .017)e4')
      >>> format_with_error(0.0053417, None)
      '.00534'
    """
    if error is None or not math.isfinite(value) or not math.isfinite(error):
        return format_number(value)
    exponent = _exponent(max(abs(value), error), 3) if value or error else 0
    scale = 0 if _is_plain(exponent) else exponent
    value, error = value / 10.0**scale, error / 10.0**scale
    decimals = _decimals(error, most=3 - (exponent - scale))
    text = (
        f"{_without_leading_zero(f'{value:.{decimals}f}')} ± "
        f"{_without_leading_zero(f'{error:.{decimals}f}')}"
    )
    return text if scale == 0 else f"({text})e{scale}"


def format_percent(value: float, error: float | None = None, sign: str = "") -> str:
    """A share in percent, to one decimal, or two where the error asks for it.

    Example:
      >>> format_percent(0.7), format_percent(0.7046, 0.0052)
      ('70.0', '70.5 ± 0.5')
      >>> format_percent(0.0125, 0.0003, sign="+")
      '+1.25 ± 0.03'
    """
    if error is None:
        return f"{100 * value:{sign}.1f}"
    decimals = 2 if 0 < error < 0.0005 else 1
    return f"{100 * value:{sign}.{decimals}f} ± {100 * error:.{decimals}f}"


def _exponent(value: float, digits: int) -> int:
    """The power of ten after rounding, which may carry."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])


def _is_plain(exponent: int) -> bool:
    return -5 < exponent < 3


def _decimals(error: float, most: int) -> int:
    """As many as show the error to a digit or two, but `most` at most."""
    if error == 0:
        return max(min(most, 2), 0)
    mantissa, _, exponent = f"{error:.1e}".partition("e")
    digits = 2 if mantissa.startswith("1") else 1
    return max(min(digits - 1 - int(exponent), most), 0)


def _without_zeros(text: str) -> str:
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return _without_leading_zero(text)


def _without_leading_zero(text: str) -> str:
    if text.startswith(("0.", "-0.")):
        return text.replace("0.", ".", 1)
    return text
