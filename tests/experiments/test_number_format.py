import math

import numpy as np
import pytest

from heavytail_optax.experiments.report.tables import (
    format_difference,
    format_number,
    format_percent,
    format_with_error,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00461234, "0.00461"),
        (0.0009996, "0.001"),  # the rounding carries
        (0.00001, "1e-5"),
        (-0.25, "-0.25"),
        (100.0, "100"),
        (999.6, "1e3"),
        (-13_100, "-1.31e4"),
        (-0.0, "0"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_number(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize("digits", [2, 3, 4])
def test_number_reads_back_to_its_digits(digits):
    rng = np.random.default_rng(0)
    for value in rng.choice([-1, 1], 300) * 10 ** rng.uniform(-9, 9, 300):
        read = float(format_number(value, digits))
        assert abs(read - value) <= 0.5000001 * 10 ** (1 - digits) * abs(value)
        assert len(format_number(value, digits)) <= digits + 6


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.0053417, 0.00037, "0.0053 ± 0.0004"),
        (0.0053417, 0.00014, "0.00534 ± 0.00014"),
        (0.0053417, 0.000096, "0.00534 ± 0.00010"),  # the rounding carries
        (0.0, 0.01, "0.000 ± 0.010"),
        (13_100, 172.0, "(1.310 ± 0.017)e4"),
        (0.00001234, 0.000003, "(1.2 ± 0.3)e-5"),
        (150.0, 42.0, "150 ± 42"),
        (0.5, 0.0, "0.50 ± 0.00"),
        (0.5, 1e-12, "0.5000 ± 0.0000"),
        (0.0046, math.nan, "0.0046"),
        (math.nan, 0.1, "nan"),
    ],
)
def test_number_with_error(value, error, text):
    assert format_with_error(value, error) == text


def test_percent():
    assert format_percent(0.7) == format_percent(0.7, math.nan) == "70.0"
    assert format_percent(0.7, 0.0) == "70.0 ± 0.0"
    assert format_percent(0.7, 0.0052) == "70.0 ± 0.5"
    assert format_percent(0.7, 0.0004) == "70.00 ± 0.04"
    assert format_difference(0.0113, 0.0015) == "+1.1 ± 0.1"
    assert format_difference(-0.0113) == "-1.1"
    assert format_difference(-0.0004) == format_difference(0.0004) == "+0.0"
