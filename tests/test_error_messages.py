"""Bad input: every public argument is fed bad values, and the error names them."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from callable_trees import Line

import heavytail_optax as hto

UPDATES = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
TAIL = hto.tails.symmetric_pareto(1.4)

NAN, INF = float("nan"), float("inf")
VECTOR = jnp.ones(2)
TREES = ([1.0], Line(0.5, 0.25))  # the second can be called, and is no schedule
NOT_NUMBERS = ("x", True, None, 1j, *TREES, jnp.asarray(True), jnp.asarray(1j))
VECTORS = (VECTOR, np.ones(2), np.ones((1, 1)))

BAD_POSITIVE = (-1.0, 0, 0.0, NAN, INF, -INF, np.float32(-1), np.zeros(()), *VECTORS)
BAD_KEYS = (
    *(0.5, "x", None, True, (0, 1), jnp.asarray(0.5), np.float32(1.0)),
    jnp.zeros(2),  # floating, in the shape of a legacy key
    jnp.zeros(3, jnp.uint32),  # no implementation has three words
    jax.random.split(jax.random.key(0), 2),
    jax.random.split(jax.random.PRNGKey(0), 2),
)


class CallableTail:
    """A tail in all else: in its place it is taken for a schedule."""

    tail_index = 1.0
    right_tail_weight = 0.5
    is_centred = True

    def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
        return jnp.zeros(shape, dtype)

    def tail_probability(self, x):
        return jnp.zeros_like(x)

    def __call__(self, count):
        return self


class WithoutSample:
    tail_index = 1.0


NOT_TAILS = (
    *(None, 1.4, "pareto", True, (TAIL,), WithoutSample(), *TREES),
    *(hto.tails.Tail, type(TAIL), CallableTail, CallableTail()),
)
NOT_CENTRED = (
    hto.tails.pareto(1.4),
    hto.tails.lomax(1.4),
    hto.tails.alpha_stable(0.9, 0.5),
)


@dataclasses.dataclass(frozen=True)
class Public:
    """A public function: good arguments, and bad values of each.

    Attributes:
      name: as in the messages.
      call: called with the arguments by keyword.
      good: arguments that are accepted.
      bad: for each argument, bad values with the error they raise.
    """

    name: str
    call: Callable[..., Any]
    good: dict[str, Any]
    bad: dict[str, tuple[tuple[type[Exception], tuple[Any, ...]], ...]]


def types(*values):
    return (TypeError, values)


def values(*bad):
    return (ValueError, bad)


def schedule(value):
    return lambda count: value


BAD_NUMBER = types(*NOT_NUMBERS)
NOT_NUMBERS_NOR_NONE = tuple(x for x in NOT_NUMBERS if x is not None)
BAD_POSITIVE_NUMBER = (BAD_NUMBER, values(*BAD_POSITIVE))
BAD_KEY = (types(*BAD_KEYS),)
# A pytree is a scale by layer.
BAD_SCALE = (
    types(
        *(x for x in NOT_NUMBERS if not isinstance(x, (list, Line))),
        *((), {}, {"w": None}, {"w": "x", "b": 0.1}, [0.1, True], Line(0.1, "x")),
    ),
    values(-1.0, NAN, INF, np.float32(-1), {"w": 0.1, "b": -1.0}, *VECTORS),
)
# A pytree has a bound for each group, or None.
BAD_MAX_NORM = (
    types(
        *(x for x in NOT_NUMBERS if not isinstance(x, (list, Line))),
        *((), {}, {"w": "x", "b": 0.1}, [0.1, True], Line(0.1, "x")),
    ),
    values(-1.0, 0.0, 0, NAN, -INF, np.zeros(()), {"w": 0.1, "b": -1.0}, *VECTORS),
)
BAD_SHARE = (BAD_NUMBER, values(0.0, 1.0, -0.1, 1.5, NAN, INF, *VECTORS))
BAD_CENTRED_TAIL = (types(*NOT_TAILS), values(*NOT_CENTRED))
BAD_DIRECTION = (types(None, 1, True, ("elementwise",)), values("x", "", "Isotropic"))
BAD_AXIS_NAME = (
    types(3, 1.5, True, ("x", 3), {"w": "x", "b": 3}, b"x"),
    values(("x", "x")),
)


def parameter_of_tail(factory, argument, bad, **others):
    return Public(factory.__name__, factory, {argument: 1.4, **others}, {argument: bad})


TAIL_FACTORIES = (
    parameter_of_tail(hto.tails.pareto, "alpha", BAD_POSITIVE_NUMBER),
    parameter_of_tail(hto.tails.lomax, "alpha", BAD_POSITIVE_NUMBER),
    parameter_of_tail(hto.tails.symmetric_pareto, "alpha", BAD_POSITIVE_NUMBER),
    parameter_of_tail(hto.tails.student_t, "df", BAD_POSITIVE_NUMBER),
    Public("gaussian", hto.tails.gaussian, {}, {}),
    Public(
        "alpha_stable",
        hto.tails.alpha_stable,
        {"alpha": 1.4, "beta": 0.0},
        {
            "alpha": (BAD_NUMBER, values(*BAD_POSITIVE, 2.5)),
            "beta": (BAD_NUMBER, values(2, -1.01, NAN, INF, *VECTORS)),
        },
    ),
)

TAILS = (
    TAIL,
    hto.tails.pareto(1.4),
    hto.tails.lomax(1.4),
    hto.tails.student_t(1.4),
    hto.tails.alpha_stable(1.4),
    hto.tails.gaussian(),
)

FACTORIES = (
    Public(
        "add_heavy_tailed_noise",
        hto.add_heavy_tailed_noise,
        {"tail": TAIL, "scale": 0.1, "key": 0, "direction": "isotropic"}
        | {"axis_name": None},
        {
            "tail": BAD_CENTRED_TAIL,
            "scale": BAD_SCALE,
            "key": BAD_KEY,
            "direction": BAD_DIRECTION,
            "axis_name": BAD_AXIS_NAME,
        },
    ),
    Public(
        "inflate_gradient_noise",
        hto.inflate_gradient_noise,
        {"tail": hto.tails.pareto(1.4), "scale": 0.1, "key": 0},
        {"tail": (types(*NOT_TAILS),), "scale": BAD_SCALE, "key": BAD_KEY},
    ),
    Public(
        "inflate_preconditioned_noise",
        hto.inflate_preconditioned_noise,
        {
            "inner": optax.sgd(0.1),
            "tail": hto.tails.pareto(1.4),
            "scale": 0.1,
            "key": 0,
            "inflate_above": 0.0,
        },
        {
            "inner": (types(None, 0.1, "x", optax.sgd),),
            "tail": (types(*NOT_TAILS),),
            # One W a step: no scale by layer.
            "scale": (types(*NOT_NUMBERS), values(-1.0, NAN, INF, *VECTORS)),
            "key": BAD_KEY,
            "inflate_above": (
                types(*NOT_NUMBERS),
                values(1.0, -0.1, NAN, INF, *VECTORS),
            ),
        },
    ),
    Public(
        "truncate_update_norm",
        hto.truncate_update_norm,
        {"max_norm": 0.5, "axis_name": None},
        {"max_norm": BAD_MAX_NORM, "axis_name": BAD_AXIS_NAME},
    ),
    Public(
        "truncated_heavy_tailed_sgd",
        hto.truncated_heavy_tailed_sgd,
        {
            "learning_rate": 0.1,
            "max_norm": 0.5,
            "tail": TAIL,
            "scale": 0.1,
            "key": 0,
            "direction": "elementwise",
            "momentum": None,
            "nesterov": False,
            "weight_decay": None,
            "axis_name": None,
        },
        {
            "learning_rate": (BAD_NUMBER, values(-1.0, NAN, INF, *VECTORS)),
            "max_norm": BAD_MAX_NORM,
            "tail": BAD_CENTRED_TAIL,
            "scale": BAD_SCALE,
            "key": BAD_KEY,
            "direction": BAD_DIRECTION,
            "momentum": (
                types(*NOT_NUMBERS_NOR_NONE),
                values(1.5, 1.0, -0.1, NAN, INF, *VECTORS),
            ),
            # Without momentum there is nothing for Nesterov to look ahead with.
            "nesterov": (types(None, 1, "x", np.bool_(True)), values(True)),
            "weight_decay": (
                types(*NOT_NUMBERS_NOR_NONE),
                values(-1.0, NAN, INF, *VECTORS),
            ),
            "axis_name": BAD_AXIS_NAME,
        },
    ),
)

BAD_SIZE = (
    types("x", 1.5, None, True, [1]),
    values(0, -1, jnp.ones((2, 2)), jnp.ones(0)),
)
BAD_SCHEME = (types(None, 1, ("shared",)), values("x", ""))
BAD_Z = (BAD_NUMBER, values(NAN, INF, *VECTORS))


def loss_per_example(params, batch):
    return (batch - params) ** 2


OF_STATES = (
    Public(
        "summary",
        hto.summary,
        {"state": optax.sgd(0.1).init(UPDATES)},
        {"state": (types(optax.sgd(0.1), optax.MultiSteps(optax.sgd(0.1), 2)),)},
    ),
)

SETTINGS_OF_BOUNDS = (
    Public(
        "adaptive_max_norm",
        hto.adaptive_max_norm,
        {"truncated_share": 0.03},
        {
            "truncated_share": BAD_SHARE,
            "adaptation_rate": BAD_POSITIVE_NUMBER,
            "warmup_steps": (types("x", 1.5, None, True, VECTOR), values(-1)),
            "freeze_after": (types("x", 1.5, True, VECTOR), values(0, -1, 99)),
            "initial": (types(*NOT_NUMBERS_NOR_NONE), values(*BAD_POSITIVE)),
        },
    ),
)

INFLATION = (
    Public(
        "independent_inflation_weights",
        hto.independent_inflation_weights,
        {"z": 1.0, "small": 4, "large": 4, "second_small": 2},
        {
            "z": BAD_Z,
            "small": BAD_SIZE,
            "large": BAD_SIZE,
            "second_small": (types("x", 1.5, True), values(0, -1)),
        },
    ),
    Public(
        "shared_inflation_weights",
        hto.shared_inflation_weights,
        {"z": 1.0, "small": 4, "large": 4},
        {"z": BAD_Z, "small": BAD_SIZE, "large": BAD_SIZE},
    ),
    Public(
        "balanced_inflation_weights",
        hto.balanced_inflation_weights,
        {"z": 1.0, "small": 4, "key": 0},
        {
            "z": BAD_Z,
            "small": (*BAD_SIZE, values(1, jnp.ones(1))),
            "key": BAD_KEY,
        },
    ),
    Public(
        "group_inflation_factors",
        hto.group_inflation_factors,
        {"z": 1.0, "num_groups": 4, "key": 0},
        {
            "z": BAD_Z,
            "num_groups": (types("x", 1.5, None, True), values(1, 0, -2)),
            "key": BAD_KEY,
        },
    ),
    *(
        Public(
            function.__name__,
            function,
            {
                "loss_per_example": loss_per_example,
                "tail": hto.tails.pareto(1.4),
                "scale": 0.5,
                "axis_name": "devices",
            },
            {
                "loss_per_example": (types(None, 1.0, "x"),),
                "tail": (types(*NOT_TAILS),),
                # One W a step: no scale by layer.
                "scale": (BAD_NUMBER, values(-1.0, NAN, INF, *VECTORS)),
                "scheme": BAD_SCHEME,
                "inflate_above": (BAD_NUMBER, values(1.0, -0.1, NAN, INF, *VECTORS)),
                "has_aux": (types(None, 1, "x"),),
                "microbatch_size": (types(1.5, "x", True), values(0, -1)),
                "axis_name": BAD_AXIS_NAME,
            },
        )
        for function in (hto.tail_inflated_grad, hto.tail_inflated_value_and_grad)
    ),
    Public(
        "value_grad_and_noise",
        hto.value_grad_and_noise,
        {"loss_per_example": loss_per_example, "axis_name": "devices"},
        {
            "loss_per_example": (types(None, 1.0, "x"),),
            "has_aux": (types(None, 1, "x"),),
            "axis_name": BAD_AXIS_NAME,
        },
    ),
)


def sum_of_squares(params, data):
    return jnp.sum(params["w"] ** 2) * jnp.mean(data)


def loss_returning(value):
    return lambda params, data: value


BAD_PARAMS = (
    types(3, "x", True, {"w": jnp.ones(3, int)}, {"w": jnp.ones(2, complex)}),
    values(None, {}, {"w": None}, {"w": jnp.ones((0, 3))}),
)
BAD_LOSS = (
    types(None, 1.0, "x", loss_returning(None), loss_returning((jnp.ones(()), {}))),
    types(loss_returning(jnp.ones((), int)), loss_returning(jnp.ones(2, complex))),
    values(loss_returning(VECTOR), loss_returning(jnp.ones(1))),
)
BAD_FINITE_LOSS = (
    *BAD_LOSS,
    values(loss_returning(jnp.asarray(NAN)), loss_returning(jnp.asarray(INF))),
)


def without_none(groups):
    """The bad values of an argument that None leaves out."""
    return tuple(
        (error, tuple(x for x in bad if x is not None)) for error, bad in groups
    )


BAD_COUNT = (types("x", 1.5, None, True, [1], VECTOR), values(0, -1))
BAD_ARGS = (
    types(None, 3, jnp.ones(2), {"data": VECTOR}),
    values((jnp.ones((0, 3)),), ({"x": np.ones(0), "y": VECTOR},)),
)
BAD_FLAG = (types(None, 1, "x", np.bool_(True)),)
BAD_AT_ONCE = (types("x", 1.5, True), values(0, -1))
BAD_FLOOR = (BAD_NUMBER, values(-1.0, NAN, INF, *VECTORS))
BAD_VECTOR = (
    types(3, "x", True, {"w": jnp.ones(3, int)}),
    values(None, {}, {"w": jnp.ones(2)}, {"v": jnp.ones(3)}),
)
BAD_COEFFICIENTS = (
    types(None, 1.0, "x", True, ["x"], jnp.ones(2, bool), jnp.ones(2, complex)),
    values(jnp.ones(()), jnp.ones((2, 2)), [], [NAN, 1.0], [INF]),
)
BAD_RESULT = (types(None, 1.0, "x", np.ones(2), (np.ones(2), np.ones(2))),)
BAD_AXES = (types(1.0, "x", True),)
BAD_SEARCH = {
    "target": BAD_POSITIVE_NUMBER,
    "lower": BAD_POSITIVE_NUMBER,
    "upper": (BAD_NUMBER, values(*BAD_POSITIVE, 1e-3)),  # not above `lower`
    "tolerance": (BAD_NUMBER, values(*BAD_POSITIVE, 1.5)),
}
BAD_MEASURED = {
    "loss_fn": BAD_FINITE_LOSS,
    "params": BAD_PARAMS,
    "key": BAD_KEY,
    "args": BAD_ARGS,
}
FLAT = {"params": {"w": jnp.ones(3)}, "args": (VECTOR,)}

FLATNESS = (
    Public(
        "expected_sharpness",
        hto.flatness.expected_sharpness,
        FLAT
        | {"loss_fn": sum_of_squares, "key": 0, "num_samples": 2}
        | {"adaptive": True, "floor": 0.1},
        {
            **BAD_MEASURED,
            "stddev": BAD_POSITIVE_NUMBER,
            "num_samples": BAD_COUNT,
            "signed": BAD_FLAG,
            "adaptive": BAD_FLAG,
            "floor": BAD_FLOOR,
            "samples_at_once": BAD_AT_ONCE,
        },
    ),
    Public(
        "expected_sharpness",
        hto.flatness.expected_sharpness,
        FLAT | {"loss_fn": sum_of_squares, "key": 0, "num_samples": 2},
        {"floor": (values(0.1),)},  # for `adaptive` only
    ),
    Public(
        "pac_bayes_sharpness",
        hto.flatness.pac_bayes_sharpness,
        FLAT
        | {"loss_fn": sum_of_squares, "key": 0, "num_samples": 2}
        | {"lower": 1e-3, "adaptive": True, "floor": 0.1},
        {
            **BAD_MEASURED,
            **BAD_SEARCH,
            "num_samples": BAD_COUNT,
            "signed": BAD_FLAG,
            "adaptive": BAD_FLAG,
            "floor": BAD_FLOOR,
            "samples_at_once": BAD_AT_ONCE,
        },
    ),
    Public(
        "maximal_sharpness",
        hto.flatness.maximal_sharpness,
        FLAT
        | {"loss_fn": sum_of_squares, "key": 0, "lower": 1e-3}
        | {"adaptive": True, "floor": 0.1},
        {
            **BAD_MEASURED,
            "deviation_fn": without_none(BAD_FINITE_LOSS),
            **BAD_SEARCH,
            "order": (types("x", None, True), values(1, 0, -1.0, NAN)),
            "num_steps": BAD_COUNT,
            "step_size": BAD_POSITIVE_NUMBER,
            "num_restarts": BAD_COUNT,
            "adaptive": BAD_FLAG,
            "floor": BAD_FLOOR,
        },
    ),
    Public(
        "hessian_eigenvalues",
        hto.flatness.hessian_eigenvalues,
        FLAT | {"loss_fn": sum_of_squares, "key": 0, "num_matvecs": 2},
        {
            **BAD_MEASURED,
            # More than the Krylov space has.
            "num_eigenvalues": (*BAD_COUNT, values(3)),
            "which": (types(None, 1), values("x", "")),
            "num_matvecs": BAD_COUNT,
        },
    ),
    Public(
        "hessian_trace",
        hto.flatness.hessian_trace,
        FLAT | {"loss_fn": sum_of_squares, "key": 0, "num_samples": 2},
        {**BAD_MEASURED, "num_samples": BAD_COUNT},
    ),
    Public(
        "hessian_density",
        hto.flatness.hessian_density,
        FLAT | {"loss_fn": sum_of_squares, "key": 0, "num_samples": 2},
        {
            **BAD_MEASURED,
            "num_samples": BAD_COUNT,
            "num_matvecs": BAD_COUNT,
            "width": (types(*NOT_NUMBERS_NOR_NONE), values(*BAD_POSITIVE)),
            "num_points": (*BAD_COUNT, values(1)),
        },
    ),
    Public(
        "gauss_newton_loss",
        hto.flatness.gauss_newton_loss,
        {"predict_fn": sum_of_squares, "loss_fn": sum_of_squares},
        {name: (types(None, 1.0, "x"),) for name in ("predict_fn", "loss_fn")},
    ),
    Public(
        "softmax_cross_entropy",
        hto.flatness.softmax_cross_entropy,
        {"logits": jnp.ones((2, 3)), "labels": jnp.zeros(2, int)},
        {
            "logits": (types(jnp.ones((2, 3), int)),),
            "labels": (types(jnp.ones(2)), values(jnp.zeros(3, int))),
        },
    ),
    Public(
        "mean_over_batches",
        hto.flatness.mean_over_batches,
        {"loss_fn": sum_of_squares, "batch_size": 2},
        {"loss_fn": (types(None, 1.0, "x"),), "batch_size": BAD_COUNT},
    ),
    Public(
        "gradient_noise_direction",
        hto.flatness.gradient_noise_direction,
        {"loss_fn": sum_of_squares, "batch_size": 2},
        {"loss_fn": (types(None, 1.0, "x"),), "batch_size": BAD_COUNT},
    ),
    Public(
        "escape_profile",
        hto.flatness.escape_profile,
        FLAT
        | {"loss_fn": sum_of_squares, "key": 0, "jump_norm": 0.5}
        | {"learning_rate": 0.1, "max_jumps": 1, "num_samples": 1}
        | {"flow_steps": 1, "descent_steps": 2},
        {
            **BAD_MEASURED,
            "jump_norm": BAD_POSITIVE_NUMBER,
            "learning_rate": BAD_POSITIVE_NUMBER,
            "direction": (
                types(3, True, {"w": jnp.ones(3, int)}),
                values(None, "x", {"w": jnp.ones(2)}, {"v": jnp.ones(3)}),
                values(lambda key, params, data: data),
            ),
            "repeat_direction": BAD_FLAG,
            "max_jumps": BAD_COUNT,
            "num_samples": BAD_COUNT,
            "flow_steps": (types("x", 1.5, None, True), values(-1)),
            "descent_steps": (types("x", 1.5, None, True), values(0, -1)),
            "barrier_threshold": (
                types(*NOT_NUMBERS_NOR_NONE),
                values(None, -1.0, NAN, INF, *VECTORS),  # None: no criterion is left
            ),
            "return_tolerance": (
                types(*NOT_NUMBERS_NOR_NONE),
                values(-1.0, NAN, INF, *VECTORS),
            ),
            "num_points": (*BAD_COUNT, values(1)),
            "project": (types(1.0, "x", True),),
            "confidence": (BAD_NUMBER, values(0.0, 1.0, -1.0, NAN, INF, *VECTORS)),
            "samples_at_once": BAD_AT_ONCE,
        },
    ),
    Public(
        "loss_line",
        hto.flatness.loss_line,
        FLAT
        | {"loss_fn": sum_of_squares, "direction": {"w": jnp.ones(3)}}
        | {"coefficients": [0.0, 1.0]},
        {
            "loss_fn": BAD_LOSS,
            "params": BAD_PARAMS,
            "args": BAD_ARGS,
            "direction": BAD_VECTOR,
            "coefficients": BAD_COEFFICIENTS,
        },
    ),
    Public(
        "loss_plane",
        hto.flatness.loss_plane,
        FLAT
        | {"loss_fn": sum_of_squares, "directions": ({"w": jnp.ones(3)},) * 2}
        | {"first": [0.0], "second": [0.0, 1.0]},
        {
            "loss_fn": BAD_LOSS,
            "params": BAD_PARAMS,
            "args": BAD_ARGS,
            "directions": (
                types(None, 3, {"w": jnp.ones(3)}, ({"w": jnp.ones(3)}, 3)),
                values((), ({"w": jnp.ones(3)},), ({"w": jnp.ones(2)},) * 2),
            ),
            "first": BAD_COEFFICIENTS,
            "second": BAD_COEFFICIENTS,
        },
    ),
    Public(
        "linear_barrier",
        hto.flatness.linear_barrier,
        {"loss_fn": sum_of_squares, "start": FLAT["params"], "args": (VECTOR,)}
        | {"end": {"w": jnp.zeros(3)}},
        {
            "loss_fn": BAD_FINITE_LOSS,
            "start": BAD_PARAMS,
            "end": BAD_VECTOR,
            "args": BAD_ARGS,
            "num_points": (*BAD_COUNT, values(1)),
        },
    ),
    Public(
        "critical_sharpness",
        hto.flatness.critical_sharpness,
        FLAT | {"loss_fn": sum_of_squares, "direction": {"w": jnp.ones(3)}},
        {
            "loss_fn": BAD_FINITE_LOSS,
            "params": BAD_PARAMS,
            "direction": BAD_VECTOR,
            "args": BAD_ARGS,
            "initial_step": (BAD_NUMBER, values(*BAD_POSITIVE, 1e-9, 1e9)),
            "lower": BAD_POSITIVE_NUMBER,
            "upper": (BAD_NUMBER, values(*BAD_POSITIVE, 1e-9)),
            "tolerance": (BAD_NUMBER, values(*BAD_POSITIVE, 1.5)),
        },
    ),
    Public(
        "by_part",
        hto.flatness.by_part,
        FLAT | {"loss_fn": sum_of_squares},
        {
            "loss_fn": BAD_LOSS,
            "params": BAD_PARAMS,
            "args": BAD_ARGS,
            "labels": (types({"w": np.ones(2)}), values({"v": "x"}, ("x",))),
        },
    ),
    Public(
        "filter_normalise",
        hto.flatness.filter_normalise,
        {"direction": {"w": jnp.ones(3)}, "params": FLAT["params"]},
        {
            "direction": BAD_VECTOR,
            "params": BAD_PARAMS,
            "filter_axis": (types(None, 1.5, "x", True), values(1, -2)),
        },
    ),
    Public(
        "plot_line",
        hto.flatness.plot_line,
        {"line": hto.flatness.LossLine(np.arange(2.0), np.arange(2.0))},
        {"line": BAD_RESULT, "label": (types(1),), "axes": BAD_AXES},
    ),
    Public(
        "plot_plane",
        hto.flatness.plot_plane,
        {"plane": hto.flatness.LossPlane(np.arange(2), np.arange(3), np.eye(2, 3))},
        {
            "plane": (
                *BAD_RESULT,
                values(hto.flatness.LossPlane(np.ones(1), np.ones(2), np.ones((1, 2)))),
            ),
            "num_levels": BAD_COUNT,
            "axes": BAD_AXES,
        },
    ),
    Public(
        "plot_density",
        hto.flatness.plot_density,
        {"density": hto.flatness.HessianDensity(*(np.ones(2) for _ in range(6)))},
        {"density": BAD_RESULT, "label": (types(1),), "axes": BAD_AXES},
    ),
    Public(
        "plot_escape_profile",
        hto.flatness.plot_escape_profile,
        {"profile": hto.flatness.EscapeProfile(*(np.ones(1) for _ in range(8)))},
        {"profile": BAD_RESULT, "label": (types(1),), "axes": BAD_AXES},
    ),
)

DRAWS = jnp.linspace(1.0, 3.0, 60) ** 2
BAD_SAMPLES = (
    types(None, 1.0, "x", True, ["x"], jnp.ones(60, int), jnp.ones(60, complex)),
    values(jnp.ones(()), jnp.ones(1), jnp.ones((60, 0))),
)
BAD_PLOTTED = (*BAD_SAMPLES, values(*(DRAWS.at[3].set(x) for x in (NAN, INF, -INF))))
BAD_AXIS = (types(1.0, "x", True, (0,)), values(1, -2))
BAD_CONFIDENCE = (BAD_NUMBER, values(0.0, 1.0, -1.0, NAN, INF, *VECTORS))
NO_COUNT = types("x", 1.5, True, [1], VECTOR)
BAD_TOP = (NO_COUNT, types(None), values(0, -1, 60))
OF_SAMPLES = {
    "samples": BAD_SAMPLES,
    "axis": BAD_AXIS,
    "confidence": BAD_CONFIDENCE,
}
WITHOUT_CONFIDENCE = {"samples": BAD_SAMPLES, "axis": BAD_AXIS}


def of_top(function, least, most=59, **others):
    """An estimator that takes the k largest draws."""
    return Public(
        function.__name__,
        function,
        {"samples": DRAWS, "k": 20},
        {
            **(WITHOUT_CONFIDENCE if others.pop("plain", False) else OF_SAMPLES),
            "k": (NO_COUNT, types(None), values(least - 1, -1, most + 1)),
            **others,
        },
    )


def of_tracked(function, most, least, **others):
    """What reads the state of a tracker of the `most` largest."""
    state = hto.tail_index.track_tail_index(most).init(UPDATES)
    return Public(
        function.__name__,
        function,
        {"state": state, "params": UPDATES},
        {
            "state": (types(None, (), 1.0), values((state, state))),
            "params": (values(None, {"w": VECTOR}),),
            "k": (NO_COUNT, values(least - 1, -1, most + 1)),
            **others,
        },
    )


WITH_SQUARES = hto.tail_index.track_tail_index(9, noise_scale=True).init(UPDATES)
BAD_INTERVAL = (types(None, 1), values("x", ""))
BAD_INFLATION = (BAD_NUMBER, values(0.0, 0.99, -1.0, NAN, INF, *VECTORS))
TAIL_INDEX = (
    of_top(
        hto.tail_index.hill,
        1,
        interval=BAD_INTERVAL,
        variance_inflation=BAD_INFLATION,
    ),
    of_top(
        hto.tail_index.extended_pareto,
        1,
        rho=(BAD_NUMBER, values(0.0, 1.0, -0.001, -101, -np.inf, np.nan, np.ones(2))),
    ),
    # Of the batch, or a scalar.
    Public(
        "hill",
        hto.tail_index.hill,
        {"samples": jnp.ones((2, 60)), "k": jnp.asarray([1, 2])},
        {"k": (types(jnp.ones(2)), values(jnp.ones(3, int), jnp.ones((2, 1), int)))},
    ),
    of_top(hto.tail_index.moment_estimator, 2),
    of_top(hto.tail_index.pickands, 4, 60),
    of_top(
        hto.tail_index.kernel_hill,
        1,
        kernel=(types(None, 1, ("uniform",)), values("x", "")),
        interval=BAD_INTERVAL,
    ),
    of_top(hto.tail_index.generalised_pareto, 5, variance_inflation=BAD_INFLATION),
    Public(
        "gradient_noise_scale",
        hto.tail_index.gradient_noise_scale,
        {
            "small_norms": DRAWS,
            "large_norms": DRAWS,
            "small_batch_size": 1,
            "large_batch_size": 8,
        },
        {
            "small_norms": BAD_SAMPLES,
            "large_norms": (*BAD_SAMPLES, values(jnp.ones(7), jnp.ones((2, 60)))),
            "axis": BAD_AXIS,
            "small_batch_size": BAD_POSITIVE_NUMBER,
            "large_batch_size": (*BAD_POSITIVE_NUMBER, values(1, 0.5)),
            "confidence": BAD_CONFIDENCE,
        },
    ),
    Public(
        "finite_moment_test",
        hto.tail_index.finite_moment_test,
        {"samples": jnp.ones(100), "key": 0},
        {
            "samples": BAD_SAMPLES,
            "axis": BAD_AXIS,
            "key": BAD_KEY,
            "order": (BAD_NUMBER, values(*BAD_POSITIVE)),
        },
    ),
    Public(
        "extremal_index",
        hto.tail_index.extremal_index,
        {"series": DRAWS, "k": 20},
        {
            "series": BAD_SAMPLES,
            "axis": BAD_AXIS,
            "confidence": BAD_CONFIDENCE,
            "k": (NO_COUNT, types(None), values(19, -1, 60)),
        },
    ),
    of_top(hto.tail_index.truncated_pareto, 10),
    of_top(hto.tail_index.hill_drift, 8, plain=True),
    of_top(
        hto.tail_index.compare_fits,
        5,
        plain=True,
        alternatives=(types(None, "lognormal", 1), values(("x",), (None,))),
    ),
    Public(
        "hill_path",
        hto.tail_index.hill_path,
        {"samples": DRAWS, "max_k": 20},
        {**WITHOUT_CONFIDENCE, "max_k": BAD_TOP},
    ),
    Public("num_tied", hto.tail_index.num_tied, {"samples": DRAWS}, WITHOUT_CONFIDENCE),
    Public(
        "log_moment",
        hto.tail_index.log_moment,
        {"samples": DRAWS},
        {**OF_SAMPLES, "block_size": (NO_COUNT, values(1, -1, 31))},
    ),
    Public(
        "characteristic_function",
        hto.tail_index.characteristic_function,
        {"samples": DRAWS},
        OF_SAMPLES,
    ),
    Public(
        "choose_k_by_bootstrap",
        hto.tail_index.choose_k_by_bootstrap,
        {"samples": DRAWS, "key": 0, "num_resamples": 2},
        {
            **OF_SAMPLES,
            "key": BAD_KEY,
            "num_resamples": BAD_COUNT,
            "max_k": (NO_COUNT, values(19, -1, 60)),
        },
    ),
    Public(
        "choose_k_by_distance",
        hto.tail_index.choose_k_by_distance,
        {"samples": DRAWS},
        {
            **OF_SAMPLES,
            "min_k": (NO_COUNT, types(None), values(1, -1, 60)),
            "max_k": (NO_COUNT, values(1, -1, 60)),
            "num_candidates": BAD_COUNT,
            "num_points": (*BAD_COUNT, values(1)),
        },
    ),
    Public(
        "goodness_of_fit",
        hto.tail_index.goodness_of_fit,
        {"samples": DRAWS, "k": 20, "key": 0, "num_simulations": 2},
        {
            **WITHOUT_CONFIDENCE,
            "k": (NO_COUNT, types(None), values(1, -1, 60)),
            "key": BAD_KEY,
            "num_simulations": BAD_COUNT,
        },
    ),
    Public(
        "assess_tail",
        hto.tail_index.assess_tail,
        {"samples": DRAWS},
        {
            "samples": BAD_SAMPLES,
            "k": (NO_COUNT, values(4, -1, 60)),
            "num_draws": (NO_COUNT, values(59, -1)),
        },
    ),
    Public(
        "propose_settings",
        hto.tail_index.propose_settings,
        {"noise_norms": DRAWS, "gradient_norms": DRAWS, "learning_rate": 0.1},
        {
            "noise_norms": BAD_SAMPLES,
            "gradient_norms": (*BAD_SAMPLES, values(jnp.ones(61), jnp.ones((2, 60)))),
            "learning_rate": BAD_POSITIVE_NUMBER,
            "alpha": BAD_POSITIVE_NUMBER,
            "scale": BAD_POSITIVE_NUMBER,
            "truncated_share": (BAD_NUMBER, values(*BAD_POSITIVE, 1.0)),
        },
    ),
    Public(
        "track_tail_index",
        hto.tail_index.track_tail_index,
        {"measure": "projection", "key": 0},
        {
            "k": BAD_COUNT,
            "source": (types(None, 1), values("x", "")),
            "measure": (types(None, 1), values("x", "")),
            "noise_scale": BAD_FLAG,
            "key": BAD_KEY,
        },
    ),
    Public(
        "track_tail_index",
        hto.tail_index.track_tail_index,
        {"measure": "norm"},
        {"key": (values(0),)},  # for "projection" only
    ),
    of_tracked(
        hto.tail_index.tracked_tail_index,
        5,
        1,
        interval=BAD_INTERVAL,
        variance_inflation=BAD_INFLATION,
        confidence=BAD_CONFIDENCE,
    ),
    of_tracked(
        hto.tail_index.tracked_extremal_index, 25, 20, confidence=BAD_CONFIDENCE
    ),
    Public(
        "tracked_noise_scale",
        hto.tail_index.tracked_noise_scale,
        {"state": WITH_SQUARES, "params": UPDATES, "batch_size": 8},
        {
            "state": (
                types(None, (), 1.0),
                values(
                    (WITH_SQUARES, WITH_SQUARES),
                    hto.tail_index.track_tail_index(9).init(UPDATES),
                ),
            ),
            "params": (values(None, {"w": VECTOR}),),
            "batch_size": BAD_POSITIVE_NUMBER,
            "confidence": BAD_CONFIDENCE,
        },
    ),
    of_tracked(hto.tail_index.assess_tracked, 9, 5),
    Public(
        "plot_hill",
        hto.tail_index.plot_hill,
        {"samples": DRAWS},
        {
            "samples": BAD_PLOTTED,
            "max_k": (NO_COUNT, values(1, -1, 60)),
            "label": (types(1),),
            "axes": BAD_AXES,
        },
    ),
    Public(
        "plot_pareto_qq",
        hto.tail_index.plot_pareto_qq,
        {"samples": DRAWS},
        {
            "samples": BAD_PLOTTED,
            "k": (NO_COUNT, values(1, -1, 60)),
            "with_end": (types(1, "x", None),),
            "label": (types(1),),
            "axes": BAD_AXES,
        },
    ),
    Public(
        "plot_moment",
        hto.tail_index.plot_moment,
        {"samples": DRAWS},
        {
            "samples": BAD_PLOTTED,
            "order": (BAD_NUMBER, values(*BAD_POSITIVE)),
            "label": (types(1),),
            "axes": BAD_AXES,
        },
    ),
    Public(
        "plot_mean_excess",
        hto.tail_index.plot_mean_excess,
        {"samples": DRAWS},
        {
            "samples": BAD_PLOTTED,
            "max_k": (NO_COUNT, values(1, -1, 60)),
            "label": (types(1),),
            "axes": BAD_AXES,
        },
    ),
)

PUBLIC = (
    *TAIL_FACTORIES,
    *FACTORIES,
    *OF_STATES,
    *SETTINGS_OF_BOUNDS,
    *INFLATION,
    *FLATNESS,
    *TAIL_INDEX,
)


def bad_calls():
    calls = []
    for row, public in enumerate(PUBLIC):
        for argument, groups in public.bad.items():
            for error, bad in groups:
                for index, value in enumerate(bad):
                    name = f"{public.name}-{row}-{argument}-{error.__name__}-{index}"
                    call = pytest.param(public, argument, value, error, id=name)
                    calls.append(call)
    return calls


def assert_wording(message, argument, functions):
    """The one wording; which may name the function that the call is made of."""
    pattern = r"The `(\w+)` argument of `([\w.]+)` must be (.+)\. Got (.+) instead\."
    match = re.fullmatch(pattern, message, re.DOTALL)
    assert match is not None, message
    assert match[1] == argument
    assert match[2] in functions


# The optimiser is a chain, whose parts check what they are given.
PARTS = {
    "truncated_heavy_tailed_sgd": (
        *("truncated_heavy_tailed_sgd", "add_heavy_tailed_noise"),
        "truncate_update_norm",
    )
}


# Each function has tests of its own that accept good arguments; this guards the table.
@pytest.mark.slow
@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.name)
def test_good_arguments_are_accepted(public):
    public.call(**public.good)


@pytest.mark.parametrize(("public", "argument", "value", "error"), bad_calls())
def test_bad_values_are_refused_at_construction(public, argument, value, error):
    with pytest.raises(error) as caught:
        public.call(**(public.good | {argument: value}))
    # Not a subclass that says something else.
    assert type(caught.value) is error
    names = PARTS.get(public.name, (public.name,))
    assert_wording(str(caught.value), argument, names)


def test_every_public_argument_is_fed_bad_values():
    """A new public function, or a new argument of one, must join the table."""
    fed = {public.call: set() for public in PUBLIC}
    for public in PUBLIC:
        fed[public.call] |= {
            argument for argument, groups in public.bad.items() if groups
        }
    values_only = {
        "AddHeavyTailedNoiseState",
        "InflateGradientNoiseState",
        "InflatePreconditionedNoiseState",
        "TruncateUpdateNormState",
        "Tail",
        "EscapePaths",
        "EscapeProfile",
        "CriticalSharpness",
        "EscapeReference",
        "EscapeSettings",
        "ExpectedSharpness",
        "HessianDensity",
        "HessianEigenvalues",
        "HessianTrace",
        "LinearBarrier",
        "LossLine",
        "LossPlane",
        "MaximalSettings",
        "MaximalSharpness",
        "PacBayesSettings",
        "PacBayesSharpness",
        "PartOfLoss",
        "SharpnessSearch",
        "ChosenK",
        "ExtremalIndex",
        "FiniteMoment",
        "GeneralisedPareto",
        "GoodnessOfFit",
        "GradientNoiseScale",
        "HillDrift",
        "HillPath",
        "LogMoment",
        "ProposedSettings",
        "StableFit",
        "TailAssessment",
        "TailFit",
        "TailIndex",
        "TrackTailIndexState",
        "TruncatedPareto",
    }
    missing = []
    for module in (hto, hto.tails, hto.flatness, hto.tail_index):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.ismodule(value) or name in values_only:
                continue
            if value not in fed:
                missing.append(name)
                continue
            arguments = set(inspect.signature(value).parameters)
            assert fed[value] <= arguments
            missing += [f"{name}({x})" for x in sorted(arguments - fed[value])]
    assert missing == []


@pytest.mark.parametrize("tail", TAILS, ids=lambda tail: type(tail).__name__)
def test_sample_refuses_bad_arguments(tail):
    functions = (f"{_snake_case(type(tail).__name__)}.sample",)
    good = {"key": 0, "shape": (2,), "dtype": jnp.float32}
    bad = {
        "key": BAD_KEYS,
        "shape": (3, 1.5, "x", None, (1.5,), ("x",)),
        "dtype": ("x", int, bool, complex, object),
    }
    for argument, bad_values in bad.items():
        for value in bad_values:
            with pytest.raises((TypeError, ValueError)) as caught:
                tail.sample(**(good | {argument: value}))
            assert_wording(str(caught.value), argument, functions)


def _snake_case(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


# What only an update can know


def eager(update, *args, **kwargs):
    return update(*args, **kwargs)


def compiled(update, *args, **kwargs):
    return jax.jit(update)(*args, **kwargs)


def traced(update, *args, **kwargs):
    return jax.eval_shape(update, *args, **kwargs)


MODES = pytest.mark.parametrize(
    "mode", [eager, compiled, traced], ids=lambda m: m.__name__
)

noise = functools.partial(hto.add_heavy_tailed_noise, TAIL, key=0)
inflation = functools.partial(hto.inflate_gradient_noise, hto.tails.pareto(1.4), key=0)


def annealed(tail):
    return hto.add_heavy_tailed_noise(schedule(tail), 0.1, key=0)


LATE = {
    "scale_schedule_of_vectors": (noise(schedule(VECTOR)), "scale", ValueError),
    "scale_schedule_of_strings": (noise(schedule("x")), "scale", TypeError),
    "scale_schedule_of_none": (noise(schedule(None)), "scale", TypeError),
    "scale_schedule_of_negative": (noise(schedule(-1.0)), "scale", ValueError),
    "scale_by_layer_schedule_of_vectors": (
        noise({"w": schedule(VECTOR), "b": 0.1}),
        "scale",
        ValueError,
    ),
    "scale_with_another_name": (noise({"w": 0.1, "c": 0.1}), "scale", ValueError),
    "scale_of_none_above_a_leaf": (noise({"w": 0.1, "b": None}), "scale", TypeError),
    "scale_that_can_be_called": (noise(Line(0.1, 0.2)), "scale", ValueError),
    "scale_without_a_leaf": (noise({"w": 0.1}), "scale", ValueError),
    "scale_of_another_node": (noise([0.1, 0.1]), "scale", ValueError),
    "scale_deeper_than_the_updates": (
        noise({"w": {"deep": 0.1}, "b": 0.1}),
        "scale",
        ValueError,
    ),
    "inflation_schedule_of_vectors": (inflation(schedule(VECTOR)), "scale", ValueError),
    "inflation_scale_no_prefix": (inflation({"w": 0.1}), "scale", ValueError),
    "tail_schedule_of_numbers": (annealed(1.4), "tail", TypeError),
    "tail_schedule_of_none": (annealed(None), "tail", TypeError),
    "tail_schedule_of_factories": (annealed(CallableTail()), "tail", TypeError),
    "tail_schedule_of_one_signed": (
        annealed(hto.tails.pareto(2.0)),
        "tail",
        ValueError,
    ),
    "inflation_tail_schedule_of_numbers": (
        hto.inflate_gradient_noise(schedule(1.4), 0.1, key=0),
        "tail",
        TypeError,
    ),
    "max_norm_schedule_of_vectors": (
        hto.truncate_update_norm(schedule(VECTOR)),
        "max_norm",
        ValueError,
    ),
    "max_norm_schedule_of_strings": (
        hto.truncate_update_norm(schedule("x")),
        "max_norm",
        TypeError,
    ),
    "max_norm_schedule_of_negative": (
        hto.truncate_update_norm(schedule(-1.0)),
        "max_norm",
        ValueError,
    ),
    "axis_name_no_prefix": (
        hto.truncate_update_norm(1.0, axis_name={"w": "x"}),
        "axis_name",
        ValueError,
    ),
    "noise_axis_name_no_prefix": (
        noise(0.1, axis_name={"w": "x"}),
        "axis_name",
        ValueError,
    ),
    "sgd_scale_no_prefix": (
        hto.truncated_heavy_tailed_sgd(0.1, 0.5, TAIL, {"w": 0.1}, key=0),
        "scale",
        ValueError,
    ),
}


@pytest.mark.parametrize(
    ("transformation", "argument", "error"), LATE.values(), ids=LATE
)
@MODES
def test_the_first_update_refuses_what_only_it_can_know(
    mode, transformation, argument, error
):
    with pytest.raises(error) as caught:
        mode(
            transformation.update,
            UPDATES,
            transformation.init(UPDATES),
            gradient_noise=UPDATES,
        )
    functions = ("add_heavy_tailed_noise", "inflate_gradient_noise")
    functions += ("truncate_update_norm", "truncated_heavy_tailed_sgd")
    assert_wording(str(caught.value).splitlines()[0], argument, functions)


GRADIENT_NOISE = {
    "none": (None, ValueError),
    "another_name": ({"w": jnp.ones((2, 3)), "c": jnp.ones(3)}, ValueError),
    "a_leaf_less": ({"w": jnp.ones((2, 3))}, ValueError),
    "an_array": (jnp.ones(3), ValueError),
    "another_shape": ({"w": jnp.ones((3, 2)), "b": jnp.ones(3)}, ValueError),
    "a_shape_that_broadcasts": ({"w": jnp.ones((1, 3)), "b": jnp.ones(3)}, ValueError),
    "integers": (jax.tree.map(lambda x: x.astype(int), UPDATES), TypeError),
    "complex": (jax.tree.map(lambda x: x.astype(complex), UPDATES), TypeError),
}


WITH_GRADIENT_NOISE = {
    "inflate_gradient_noise": inflation(0.1),
    "inflate_preconditioned_noise": hto.inflate_preconditioned_noise(
        optax.sgd(0.1), hto.tails.pareto(1.4), 0.1, key=0
    ),
}


@pytest.mark.parametrize(("bad", "error"), GRADIENT_NOISE.values(), ids=GRADIENT_NOISE)
@pytest.mark.parametrize("name", WITH_GRADIENT_NOISE)
@MODES
def test_bad_gradient_noise_is_refused(mode, name, bad, error):
    transformation = WITH_GRADIENT_NOISE[name]
    state = transformation.init(UPDATES)
    with pytest.raises(error) as caught:
        mode(transformation.update, UPDATES, state, gradient_noise=bad)
    assert_wording(
        str(caught.value).splitlines()[0],
        "gradient_noise",
        (f"{name}.update",),
    )


@pytest.mark.parametrize("name", WITH_GRADIENT_NOISE)
def test_missing_gradient_noise_is_named(name):
    transformation = WITH_GRADIENT_NOISE[name]
    with pytest.raises(ValueError) as caught:
        transformation.update(UPDATES, transformation.init(UPDATES))
    assert_wording(str(caught.value), "gradient_noise", (f"{name}.update",))


BAD_LEAVES = {
    "integer": jnp.ones(3, int),
    "boolean": jnp.ones(3, bool),
    "complex": jnp.ones(3, complex),
    "key": jax.random.key(0),
    "string": "x",
    "number": 3,
}


@pytest.mark.parametrize(
    ("public", "bad"),
    [
        pytest.param(public, bad, id=f"{public.name}-{name}")
        for public in FACTORIES
        for name, bad in BAD_LEAVES.items()
        # Complex updates have a norm.
        if (public.name, name) != ("truncate_update_norm", "complex")
    ],
)
def test_leaves_that_are_not_floating_are_refused(public, bad):
    transformation = public.call(**public.good)
    updates = {"w": jnp.ones((2, 3)), "b": bad}
    state = transformation.init(UPDATES)
    with pytest.raises(TypeError) as caught:
        transformation.update(updates, state, UPDATES, gradient_noise=UPDATES)
    functions = [f"{name}.update" for name in PARTS.get(public.name, (public.name,))]
    assert_wording(str(caught.value), "updates", functions)


# Traced values cannot be checked


def update_with(make, value):
    transformation = make(value)
    return transformation.update(
        UPDATES, transformation.init(UPDATES), UPDATES, gradient_noise=UPDATES
    )[0]


def sgd(**changes):
    good = {"learning_rate": 0.1, "max_norm": 0.5, "tail": TAIL, "scale": 0.1, "key": 0}
    return hto.truncated_heavy_tailed_sgd(**(good | changes))


TRACED = {
    # Not by rounding: that is zero.
    "max_norm": (hto.truncate_update_norm, (-1.0, -1e-5, -INF, NAN)),
    "max_norm_schedule": (
        lambda b: hto.truncate_update_norm(lambda count: b + count),
        (-1.0, -INF, NAN),
    ),
    "scale": (noise, (-1.0, NAN, INF)),
    "isotropic_scale": (
        functools.partial(noise, direction="isotropic"),
        (-1.0, NAN, INF),
    ),
    "inflation_scale": (inflation, (-1.0, NAN, INF)),
    "sgd_max_norm": (lambda b: sgd(max_norm=b), (-1.0, NAN)),
    "sgd_scale": (lambda c: sgd(scale=c), (-1.0, NAN, INF)),
    "sgd_learning_rate": (lambda eta: sgd(learning_rate=eta), (-1.0, NAN, INF)),
    "sgd_learning_rate_schedule": (
        lambda eta: sgd(learning_rate=lambda count: eta + count),
        (-1.0, NAN, INF),
    ),
    "sgd_momentum": (lambda mu: sgd(momentum=mu), (-1.0, 1.0, NAN, INF)),
    "sgd_weight_decay": (lambda decay: sgd(weight_decay=decay), (-1.0, NAN, INF)),
    "scale_schedule": (lambda c: noise(lambda count: c + count), (-1.0, NAN, INF)),
    "inflation_scale_schedule": (
        lambda c: inflation(lambda count: c + count),
        (-1.0, NAN, INF),
    ),
    "tail_schedule": (
        lambda alpha: hto.add_heavy_tailed_noise(
            lambda count: hto.tails.symmetric_pareto(alpha + count), 0.1, key=0
        ),
        (-1.0, 0.0, NAN, INF),
    ),
    **{
        name: (
            lambda alpha, name=name: hto.add_heavy_tailed_noise(
                getattr(hto.tails, name)(alpha), 0.1, key=0
            ),
            (-1.0, 0.0, NAN, INF),
        )
        for name in ("symmetric_pareto", "student_t", "alpha_stable")
    },
    **{
        name: (
            lambda alpha, name=name: hto.inflate_gradient_noise(
                getattr(hto.tails, name)(alpha), 0.1, key=0
            ),
            (-1.0, 0.0, NAN, INF),
        )
        for name in ("pareto", "lomax")
    },
    "alpha_stable_beta": (
        lambda beta: hto.add_heavy_tailed_noise(
            hto.tails.alpha_stable(1.5, beta), 0.1, key=0
        ),
        (-2.0, 1.5, NAN),
    ),
}


@pytest.mark.parametrize(("make", "bad"), TRACED.values(), ids=TRACED)
def test_bad_traced_values_make_every_entry_nan(make, bad):
    step = jax.jit(functools.partial(update_with, make))
    for value in bad:
        for leaf in jax.tree.leaves(step(value)):
            assert bool(jnp.isnan(leaf).all()), value
    # The same program with a good value: it is the value that made NaN.
    for leaf in jax.tree.leaves(step(0.75)):
        assert bool(jnp.isfinite(leaf).all())


def test_a_bad_array_is_checked_no_more_than_a_tracer():
    """A JAX array may live on another host: reading its value would wait for it."""
    truncation = hto.truncate_update_norm(jnp.asarray(-1.0))
    got, _ = truncation.update(UPDATES, truncation.init(UPDATES))
    assert all(bool(jnp.isnan(x).all()) for x in jax.tree.leaves(got))


def test_weight_decay_without_parameters_says_so():
    optimizer = sgd(weight_decay=0.1)
    with pytest.raises(ValueError, match="params"):
        optimizer.update(UPDATES, optimizer.init(UPDATES))


@pytest.mark.parametrize(
    ("message", "argument"),
    [
        ("alpha must be positive, got -1.", "alpha"),
        ("The `alpha` argument of `pareto` must be positive. Got -1 instead.", "df"),
        ("The `alpha` argument of `lomax` must be positive. Got -1 instead.", "alpha"),
    ],
)
def test_the_check_of_the_wording_has_teeth(message, argument):
    with pytest.raises(AssertionError):
        assert_wording(message, argument, ("pareto",))


def test_a_tail_factory_is_not_taken_for_a_schedule():
    """Else alpha would be the step, and the noise NaN without a word."""
    with pytest.raises(TypeError, match="`symmetric_pareto\\(...\\)` returns"):
        hto.add_heavy_tailed_noise(hto.tails.symmetric_pareto, 0.1, key=0)


DRAWS = np.arange(1.0, 101.0)


@pytest.mark.parametrize(
    ("call", "limit"),
    [
        (lambda: hto.adaptive_max_norm(freeze_after=60), "`warmup_steps`, 100"),
        (
            lambda: hto.adaptive_max_norm(freeze_after=6, warmup_steps=7),
            "`warmup_steps`, 7",
        ),
        (
            lambda: hto.flatness.escape_profile(
                *(jnp.sum, VECTOR),
                key=0,
                jump_norm=1.0,
                learning_rate=0.1,
                flow_steps=9,
                descent_steps=8,
            ),
            "`flow_steps`, 9",
        ),
        (lambda: hto.tail_index.hill(DRAWS, 100), "draws less one, 99"),
        (lambda: hto.tail_index.kernel_hill(DRAWS, 100), "draws less one, 99"),
        (lambda: hto.tail_index.pickands(DRAWS, 101), "number of draws, 100"),
        (
            lambda: hto.tail_index.choose_k_by_distance(DRAWS, max_k=50, min_k=51),
            "`max_k`, 50",
        ),
        (
            lambda: hto.tail_index.log_moment(DRAWS, block_size=51),
            "half of the draws, 50",
        ),
        (
            lambda: hto.tail_index.tracked_tail_index(
                hto.tail_index.track_tail_index(7).init(VECTOR), VECTOR, k=8
            ),
            "the tracked k, 7",
        ),
        (
            lambda: hto.tail_index.assess_tail(DRAWS, num_draws=99),
            "samples that are not zero, 100",
        ),
    ],
)
def test_a_limit_that_another_argument_sets_is_said_with_its_source(call, limit):
    with pytest.raises(ValueError, match="instead") as caught:
        call()
    assert limit in str(caught.value)


def test_a_limit_of_the_function_itself_has_no_other_source():
    with pytest.raises(ValueError, match="of at least 1\\. Got 0"):
        hto.adaptive_max_norm(freeze_after=0, initial=1.0)


UNCALLED = (hto.adaptive_max_norm, hto.tails.pareto, hto.truncate_update_norm)


@pytest.mark.parametrize("uncalled", UNCALLED, ids=lambda function: function.__name__)
@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("max_norm", hto.truncate_update_norm),
        ("max_norm", lambda x: hto.truncate_update_norm({"w": x, "b": None})),
        ("max_norm", lambda x: sgd(max_norm=x)),
        ("tail", lambda x: sgd(tail=x)),
        ("scale", lambda x: sgd(scale=x)),
        ("scale", lambda x: sgd(scale={"w": 0.1, "b": x})),
        ("learning_rate", lambda x: sgd(learning_rate=x)),
        ("tail", lambda x: hto.inflate_gradient_noise(x, 0.1, key=0)),
        ("scale", lambda x: hto.inflate_gradient_noise(TAIL, x, key=0)),
        ("tail", lambda x: hto.tail_inflated_grad(loss_per_example, x, 0.1)),
        ("scale", lambda x: hto.tail_inflated_grad(loss_per_example, TAIL, x)),
        ("tail", lambda x: hto.dynamics.sgd_process(0.1, 0.5, x, 0.1)),
        (
            "direction",
            lambda x: hto.flatness.escape_profile(
                jnp.sum, VECTOR, key=0, jump_norm=1.0, learning_rate=0.1, direction=x
            ),
        ),
    ],
)
def test_forgotten_parentheses_are_refused_at_construction(argument, make, uncalled):
    """They would be called with the step, and fail in the first update, or never."""
    name = uncalled.__name__
    with pytest.raises(TypeError, match=f"`{name}\\(...\\)` returns") as caught:
        make(uncalled)
    assert f"The `{argument}` argument" in str(caught.value)


@pytest.mark.parametrize("argument", ["max_norm", "scale", "learning_rate"])
def test_a_class_is_no_schedule_and_a_function_that_ours_returns_is(argument):
    with pytest.raises(TypeError, match=f"`{argument}` argument"):
        sgd(**{argument: type(hto.adaptive_max_norm())})
    sgd(**{argument: hto.value_grad_and_noise(loss_per_example)})


def test_a_learning_rate_schedule_must_return_a_scalar():
    optimizer = hto.truncated_heavy_tailed_sgd(
        lambda step: jnp.ones(2), 0.5, hto.tails.gaussian(), 0.1, key=0
    )
    params = jnp.ones(2)
    with pytest.raises(ValueError, match="`learning_rate` argument"):
        optimizer.update(params, optimizer.init(params), params)
