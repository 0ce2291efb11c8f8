import math

import pytest

from heavytail_optax.experiments.report.number_format import (
    format_number,
    format_percent,
    format_with_error,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0046, ".0046"),
        (0.00461234, ".00461"),
        (0.0009996, ".001"),  # the rounding carries
        (0.00001, "1e-5"),
        (-0.25, "-.25"),
        (2.043, "2.04"),
        (70.0, "70"),
        (100.0, "100"),
        (999.6, "1e3"),
        (9_000, "9e3"),
        (13_100, "1.31e4"),
        (-13_100, "-1.31e4"),
        (0.0, "0"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_number(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    "value",
    [0.032, 0.694, 2.043, 2.046, 0.05, 13_100, 9_000, 10_000, 21_600, 0.002],
)
def test_figures_of_the_paper_keep_their_digits(value):
    assert float(format_number(value, digits=4)) == value


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.0053417, 0.00037, ".0053 ± .0004"),
        (0.0053417, 0.00014, ".00534 ± .00014"),
        (0.0053417, 0.000096, ".00534 ± .00010"),  # the rounding carries
        (0.00835, 0.00785, ".008 ± .008"),
        (0.0, 0.01, ".000 ± .010"),
        (2.043, 0.2, "2.0 ± .2"),
        (13_100, 172.0, "(1.310 ± .017)e4"),
        (13_100, 500.0, "(1.31 ± .05)e4"),
        (0.00001234, 0.000003, "(1.2 ± .3)e-5"),
        (150.0, 42.0, "150 ± 42"),
        (0.5, 0.0, ".50 ± .00"),
        (0.5, 1e-12, ".5000 ± .0000"),
        (0.0046, None, ".0046"),
        (math.nan, 0.1, "nan"),
        (0.5, math.nan, ".5"),
    ],
)
def test_number_with_error(value, error, text):
    assert format_with_error(value, error) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.7,), "70.0"),
        ((0.7, 0.0), "70.0 ± 0.0"),
        ((0.7, 0.0052), "70.0 ± 0.5"),
        ((0.7, 0.0004), "70.00 ± 0.04"),
        ((0.0113, 0.0015, "+"), "+1.1 ± 0.1"),
        ((-0.0113, None, "+"), "-1.1"),
    ],
)
def test_percent(arguments, text):
    assert format_percent(*arguments) == text
