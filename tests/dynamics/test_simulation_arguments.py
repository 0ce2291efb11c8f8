"""Bad input to the simulation: every argument, refused by name before work starts."""

import inspect

import numpy as np
import optax
import pytest
from test_error_messages import BAD_KEYS, INF, NAN, assert_wording

import heavytail_optax as hto

DYNAMICS = hto.dynamics
TAIL = hto.tails.symmetric_pareto(1.2)
WELL = DYNAMICS.quadratic(1.0, 0.3, 0.4)
PROCESS = DYNAMICS.sgd_process(1e-2, 0.5, TAIL, 0.5)
NOT_COUNTS = (None, "x", 1.5, True, (3,))
NOT_NUMBERS = (None, "x", True, 1j, [1.0])


def types(*bad):
    return [(TypeError, value) for value in bad]


def values(*bad):
    return [(ValueError, value) for value in bad]


GOOD = {
    DYNAMICS.sgd_process: {
        "learning_rate": 0.1,
        "max_norm": 0.5,
        "tail": TAIL,
        "scale": 0.1,
        "drift": None,
        "diffusion": None,
    },
    DYNAMICS.optax_process: {"make_optimizer": lambda key: optax.sgd(0.1)},
    DYNAMICS.simulate: {
        "landscape": WELL,
        "process": PROCESS,
        "key": 0,
        "start": 0.0,
        "num_steps": 4,
        "num_chains": 2,
        "burn_in": 2,
        "record_every": 2,
        "radii": 0.1,
        "landmarks": (0,),
        "num_bins": 10,
        "snapshot_every": 2,
        "num_paths": 1,
    },
    DYNAMICS.first_exit_times: {
        "landscape": WELL,
        "process": PROCESS,
        "field": 0,
        "key": 0,
        "num_exits": 2,
        "max_steps": 3,
        "start": None,
    },
    DYNAMICS.exponential_p_value: {
        "times": np.arange(1.0, 20.0),
        "seed": 0,
        "num_draws": 9,
    },
    DYNAMICS.occupation: {"counts": [[1, 2], [3, 4]], "num_records": 5},
}
LANDSCAPES = types(None, 1.0, "four minima", DYNAMICS.four_minima)
PROCESSES = types(None, 0.1, optax.sgd(0.1), DYNAMICS.sgd_process)
KEYS = types(*BAD_KEYS)
BAD = {
    DYNAMICS.sgd_process: {
        "learning_rate": types(*NOT_NUMBERS) + values(0.0, -1.0, NAN, INF),
        "max_norm": types(*NOT_NUMBERS, lambda step: 1.0) + values(0.0, -1.0, NAN),
        "tail": types(None, 1.4, lambda step: TAIL) + values(hto.tails.pareto(1.4)),
        "scale": types(*NOT_NUMBERS) + values(-1.0, NAN, INF),
        "drift": types(1.0, "x"),
        "diffusion": types(1.0, "x"),
    },
    DYNAMICS.optax_process: {
        "make_optimizer": types(None, optax.sgd(0.1), type) + values(lambda key: key),
    },
    DYNAMICS.simulate: {
        "landscape": LANDSCAPES,
        "process": PROCESSES + values(DYNAMICS.sgd_process(1e-30, 0.5, TAIL, 0.1)),
        "key": KEYS,
        "start": values(NAN, INF, [0.0, 0.1, 0.2], [[0.0]]),
        "num_steps": types(*NOT_COUNTS) + values(0, -2, 3, 2**31),
        "num_chains": types(*NOT_COUNTS) + values(0, -1),
        "burn_in": types(*NOT_COUNTS) + values(-2, 1),
        "record_every": types(*NOT_COUNTS) + values(0, -1),
        "radii": values(0.0, -1.0, NAN, [0.1, 0.2]),
        "landmarks": types(0, "x", (0.5,), (True,)) + values((), (1,), (-1,)),
        "num_bins": types(*NOT_COUNTS) + values(0),
        "snapshot_every": types("x", 1.5, True) + values(0, 1),
        "num_paths": types(*NOT_COUNTS) + values(-1, 3),
    },
    DYNAMICS.first_exit_times: {
        "landscape": LANDSCAPES,
        "process": PROCESSES,
        "field": types(None, 0.0, "x", True) + values(-1, 1),
        "key": KEYS,
        "num_exits": types(*NOT_COUNTS) + values(0, -1),
        "max_steps": types(*NOT_COUNTS) + values(0, -1, 2**31),
        "start": values(NAN, 0.5, [0.0, 0.1, 0.2]),
    },
    DYNAMICS.exponential_p_value: {
        "times": types("x", [object()] * 10)
        + values(np.ones(9), -np.ones(10), np.ones((10, 2)), np.full(10, NAN)),
        "seed": types(None, 0.5, "x", True) + values(-1),
        "num_draws": types(*NOT_COUNTS) + values(0),
    },
    DYNAMICS.occupation: {
        "counts": values([[1, 2]], 3.0, [], [[-1, 0], [1, 1]]),
        "num_records": types(*NOT_COUNTS) + values(0, 3),
    },
}
CASES = [
    pytest.param(call, argument, error, value, id=f"{call.__name__}-{argument}-{index}")
    for call, arguments in BAD.items()
    for argument, cases in arguments.items()
    for index, (error, value) in enumerate(cases)
]


@pytest.mark.parametrize("call", GOOD)
def test_good_arguments_are_accepted_and_all_are_fed_bad_ones(call):
    call(**GOOD[call])
    assert set(BAD[call]) == set(inspect.signature(call).parameters)


@pytest.mark.parametrize(("call", "argument", "error", "value"), CASES)
def test_bad_values_are_refused(call, argument, error, value):
    with pytest.raises(error) as caught:
        call(**(GOOD[call] | {argument: value}))
    assert type(caught.value) is error
    assert_wording(str(caught.value), argument, (call.__name__,))
