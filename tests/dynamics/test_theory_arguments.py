"""Bad input to landscapes, theory and rare events: every argument, by name."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto

DYNAMICS = hto.dynamics
NAN, INF = float("nan"), float("inf")
WELL = DYNAMICS.quadratic(1.0, 0.3, 0.4)
PLANE = DYNAMICS.product_landscape([WELL, WELL])
PARETO = hto.tails.symmetric_pareto(1.2)

NOT_NUMBERS = ("x", True, None, 1j, [1.0])
NOT_POSITIVE = (-1.0, 0.0, 0, NAN, np.ones(2), jnp.ones(2))
BAD_POSITIVE = {TypeError: NOT_NUMBERS, ValueError: (*NOT_POSITIVE, INF)}
BAD_POSITIVE_OR_INFINITE = {TypeError: NOT_NUMBERS, ValueError: NOT_POSITIVE}
BAD_COUNT = {TypeError: ("x", 1.5, None, True, [1]), ValueError: (0, -1)}
BAD_KEY = {TypeError: (0.5, "x", None, True, (0, 1))}
BAD_FIELD = {TypeError: ("x", 1.5, None, True), ValueError: (-1, 1)}
BAD_LINE = {TypeError: (None, 1.0, "four minima", DYNAMICS.four_minima)}
BAD_LINE |= {ValueError: (PLANE,)}
BAD_TAIL = {
    TypeError: (None, 1.2, "pareto", hto.tails.symmetric_pareto),
    ValueError: (
        hto.tails.pareto(1.2),
        hto.tails.lomax(1.2),
        hto.tails.gaussian(),
        hto.tails.symmetric_pareto(1.0),
        hto.tails.symmetric_pareto(0.9),
    ),
}
# Two minima with a maximum between them.
BAD_MINIMA = {
    TypeError: (1.0, "x", None, ["x"], [True, 1.0]),
    ValueError: ([], [1.0, -1.0], [0.5, 0.5], [NAN, 1.0], [-1.0, INF]),
}
BAD_MAXIMA = {
    TypeError: (0.0, "x", None, ["x"]),
    ValueError: ([], [0.0, 0.5], [-2.0], [1.0], [NAN]),
}
BAD_CURVATURES = {
    TypeError: ("x", True, None, ["x", 1.0]),
    ValueError: (0.0, -1.0, NAN, INF, [1.0], [1.0, -1.0]),
}
BAD_THEORY = {
    "landscape": BAD_LINE,
    "tail": BAD_TAIL,
    "scale": BAD_POSITIVE,
    "max_norm": BAD_POSITIVE_OR_INFINITE,
}


@dataclasses.dataclass(frozen=True)
class Public:
    """A public function, good arguments, and bad values of each by error."""

    call: Callable[..., Any]
    good: dict[str, Any]
    bad: dict[str, dict[type[Exception], tuple[Any, ...]]]


THEORY = {"landscape": WELL, "tail": PARETO, "scale": 0.1, "max_norm": 0.5}
RATES = DYNAMICS.exit_rates(**(THEORY | {"landscape": DYNAMICS.four_minima()}))

PUBLIC = (
    Public(DYNAMICS.four_minima, {}, {}),
    Public(
        DYNAMICS.quadratic,
        {"curvature": 1.0, "left": 0.9, "right": INF},
        {
            "curvature": BAD_POSITIVE,
            "left": BAD_POSITIVE_OR_INFINITE,
            "right": BAD_POSITIVE_OR_INFINITE,
        },
    ),
    Public(
        DYNAMICS.wells_landscape,
        {"minima": [-1.0, 1.0], "maxima": [0.0], "curvatures": [1.0, 2.0]},
        {
            "minima": BAD_MINIMA,
            "maxima": BAD_MAXIMA,
            "curvatures": BAD_CURVATURES,
            "maxima_curvatures": {
                TypeError: ("x", True, ["x"]),
                ValueError: (0.0, -1.0, NAN, [], [1.0, 1.0]),
            },
        },
    ),
    Public(
        DYNAMICS.landscape_on_line,
        {"value": lambda x: (x * x - 1.0) ** 2, "minima": [-1.0, 1.0], "maxima": [0.0]}
        | {"projection": (-3.0, 3.0)},
        {
            "value": {TypeError: (None, 1.0, "x")},
            "minima": BAD_MINIMA,
            "maxima": BAD_MAXIMA,
            "gradient": {TypeError: (1.0, "x")},
            "projection": {
                TypeError: (1.0, "xy", (None, 1.0)),
                ValueError: ((-3.0,), (3.0, -3.0), (-0.5, 3.0), (-INF, INF)),
            },
            "name": {TypeError: (None, 3)},
        },
    ),
    Public(
        DYNAMICS.product_landscape,
        {"factors": [WELL, WELL]},
        {
            "factors": {
                TypeError: (None, WELL, "x", [WELL, None]),
                ValueError: ([], [WELL], [WELL, PLANE]),
            }
        },
    ),
    Public(
        DYNAMICS.random_mixture,
        {"key": 0, "dimension": 2, "num_minima": 2},
        {
            "key": BAD_KEY,
            "dimension": BAD_COUNT,
            "num_minima": BAD_COUNT,
            "radius": {
                TypeError: NOT_NUMBERS,
                ValueError: (*NOT_POSITIVE, INF, 0.1),
            },
            "stddevs": {
                TypeError: (1.0, "x", None, (0.5,), ("x", 1.0)),
                ValueError: ((0.0, 1.0), (1.0, 0.5), (0.5, NAN), (0.5, INF)),
            },
        },
    ),
    Public(DYNAMICS.exit_rates, THEORY, BAD_THEORY),
    Public(
        DYNAMICS.markov_chain,
        {"rates": RATES},
        {
            "rates": {TypeError: (None, RATES.rates, DYNAMICS.four_minima())},
            "within": {TypeError: ("x", 1.5, True), ValueError: (-1, 4)},
        },
    ),
    Public(
        DYNAMICS.rare_exit_rate,
        THEORY
        | {"field": 0, "key": 0, "learning_rate": 1e-6, "num_samples": 64}
        | {"jumps_per_relaxation": 10, "samples_at_once": 64},
        {
            **BAD_THEORY,
            "tail": BAD_TAIL | {ValueError: (hto.tails.student_t(1.4),)},
            "field": BAD_FIELD,
            "key": BAD_KEY,
            "learning_rate": {
                TypeError: NOT_NUMBERS,
                ValueError: (*NOT_POSITIVE, INF, 2.0),
            },
            "num_samples": {
                TypeError: ("x", 1.5, None, True),
                ValueError: (0, -1, 9),
            },
            "method": {TypeError: (None, 1), ValueError: ("x", "")},
            "jumps_per_relaxation": BAD_POSITIVE,
            "burn_in": BAD_POSITIVE,
            "window": BAD_POSITIVE,
            "confidence": {
                TypeError: NOT_NUMBERS,
                ValueError: (0.0, 1.0, -1.0, 95, NAN),
            },
            "samples_at_once": BAD_COUNT,
        },
    ),
)


def bad_calls():
    return [
        pytest.param(
            *(public, argument, value, error),
            id=f"{public.call.__name__}-{argument}-{error.__name__}-{index}",
        )
        for public in PUBLIC
        for argument, errors in public.bad.items()
        for error, values in errors.items()
        for index, value in enumerate(values)
    ]


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.call.__name__)
@pytest.mark.filterwarnings("ignore:The weights")
def test_good_arguments_are_accepted_and_all_are_fed_bad_ones(public):
    public.call(**public.good)
    assert set(public.bad) == set(inspect.signature(public.call).parameters)


@pytest.mark.parametrize(("public", "argument", "value", "error"), bad_calls())
def test_bad_values_are_refused(public, argument, value, error):
    with pytest.raises(error) as caught:
        public.call(**(public.good | {argument: value}))
    assert type(caught.value) is error
    pattern = r"The `(\w+)` argument of `(\w+)` must be (.+)\. Got (.+) instead\."
    match = re.fullmatch(pattern, str(caught.value), re.DOTALL)
    assert match is not None, str(caught.value)
    assert match[2] == public.call.__name__
    # Minima and maxima are checked against each other.
    together = {"minima", "maxima", "curvatures"}
    assert match[1] == argument or {match[1], argument} <= together


@pytest.mark.parametrize("call", ["sides", "curvature"])
def test_methods_of_a_landscape_refuse_by_name(call):
    with pytest.raises(ValueError, match=f"argument of `Landscape.{call}` must be"):
        if call == "sides":
            PLANE.sides  # noqa: B018
        else:
            PLANE.curvature(1)


def test_a_field_without_an_end_is_never_left():
    with pytest.raises(ValueError, match="`field` argument of `rare_exit_rate`"):
        DYNAMICS.rare_exit_rate(
            DYNAMICS.wells_landscape([0.0], []),
            0,
            key=0,
            learning_rate=1e-6,
            **{name: THEORY[name] for name in ("tail", "scale", "max_norm")},
        )
