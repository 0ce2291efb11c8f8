import math
import re
import subprocess
import sys
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto
from heavytail_optax.experiments.data.dataset import Split
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.measures.flatness import MEASURE_NAMES, MEASURES
from heavytail_optax.experiments.measures.measure import (
    Measured,
    Measurement,
    MeasureOptions,
    TrainedNetwork,
    in_words,
    read_record,
    write_record,
)
from heavytail_optax.experiments.models.networks import build_network
from heavytail_optax.experiments.parallel import data_mesh, replicate
from heavytail_optax.experiments.runs.measuring import trained_network
from heavytail_optax.experiments.settings import TableMeasure
from heavytail_optax.experiments.training.batches import random_streams
from heavytail_optax.experiments.training.evaluation import evaluate

CURVATURE = jnp.array([1.0, 2.0, 8.0, 0.5, 0.25, 0.25])


def quadratic(params, split):
    del split
    return 0.5 * jnp.sum(CURVATURE * params**2)


def never_wrong(params, split):
    del split
    return 0.0 * params[0]


def always_worse(params, split):
    del split
    return jnp.where(jnp.any(params != 0.0), 1.0, 0.0)


def measured(name, tiny, loss=quadratic, error=quadratic, **options):
    """A measure of a quadratic bowl at its minimum."""
    split = Split(jnp.zeros((200, 1)), jnp.zeros(200, jnp.int32))
    key = random_streams(0).sharpness
    network = TrainedNetwork(loss, error, jnp.zeros(6), split, tiny, key)
    arguments = MEASURES[name].arguments(tiny, MeasureOptions(**options))
    found = MEASURES[name].compute(network, arguments, lambda done, total: False)
    assert tuple(found.scalars) == MEASURES[name].scalars
    return found


def test_measures_are_found_with_those_of_the_tables_first():
    assert MEASURE_NAMES == tuple(measure.name for measure in MEASURES.values())
    assert MEASURE_NAMES[:3] == get_args(TableMeasure)
    assert {"eigenvalues", "trace", "density", "line", "escape"} < set(MEASURE_NAMES)


def test_names_and_options_load_no_flax():
    """As `--help` does."""
    program = (
        "import sys; from heavytail_optax.experiments.measures import flatness; "
        "print({'flax', 'matplotlib', 'sklearn', 'scipy.stats'} & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "set()"


def test_measures_of_a_bowl_are_those_of_its_curvature(tiny):
    # 1/alpha^2 = h_max / (2 target); the search ends within 1% of alpha.
    found = measured("maximal", tiny, target=0.2)
    assert found.scalars["maximal_sharpness"][0] == pytest.approx(20.0, rel=0.03)
    assert found.scalars["maximal_sharpness"][1] is None
    # 1/sigma^2 = tr H / (2 target), from 400 samples: five standard errors.
    found = measured("pac-bayes", tiny, target=0.2, samples=400)
    value, error = found.scalars["pac_bayes_sharpness"]
    assert abs(value - 30.0) < 5 * error < 10.0
    assert found.remark == ""


@pytest.mark.parametrize("name", ["trace", "density"])
def test_curvature_in_parts_says_how_far_it_is_and_is_that_of_the_library(name, tiny):
    def cubic(params, split):  # no diagonal Hessian, so that each vector counts
        return quadratic(params, split) + jnp.sum(params) ** 3 + params[0] * params[1]

    split = Split(jnp.zeros((4, 1)), jnp.zeros(4, jnp.int32))
    network = TrainedNetwork(cubic, cubic, jnp.ones(6), split, tiny, jax.random.key(3))
    ticks = []

    def tick(done, total):
        ticks.append((done, total))
        return False

    arguments = MEASURES[name].arguments(tiny, MeasureOptions(samples=25))
    found = MEASURES[name].compute(network, arguments, tick)
    if name == "trace":
        assert ticks == [(0, 25), (10, 25), (20, 25)]
        whole = network.apply(hto.flatness.hessian_trace, **arguments)
        assert found.scalars["hessian_trace"] == tuple(map(float, whole))
    else:
        assert ticks == [(0, 3), (1, 3), (2, 3)]
        whole = network.apply(hto.flatness.hessian_density, **arguments)
        values = found.curves["density"]["density"]
        np.testing.assert_allclose(values, whole.density, rtol=1e-5)
    stopped = MEASURES[name].compute(network, arguments, lambda done, _: done > 0)
    assert stopped is None


def test_curvature_of_a_bowl(tiny):
    found = measured("eigenvalues", tiny)
    assert found.scalars["top_eigenvalue"] == (pytest.approx(8.0, rel=1e-5), None)
    # The one that occurs twice is found once.
    values = found.curves["eigenvalues"]["value"]
    assert values == pytest.approx([8.0, 2.0, 1.0, 0.5, 0.25], rel=1e-4)
    # No sampling error, as the Hessian is diagonal.
    value, error = measured("trace", tiny, samples=2).scalars["hessian_trace"]
    assert value == pytest.approx(12.0) and error < 1e-5
    density = measured("density", tiny).curves["density"]
    share = np.trapezoid(density["density"], density["eigenvalue"])
    assert share == pytest.approx(1.0, rel=1e-3)
    lines = measured("line", tiny).curves
    reach = 2 * tiny.method.max_norm
    t = np.linspace(-reach, reach, 41)
    assert lines["line_eigenvector"]["coefficient"] == pytest.approx(t, rel=1e-6)
    expected = 4 * t**2
    assert lines["line_eigenvector"]["loss"] == pytest.approx(expected, abs=1e-6)
    # Vectors do not move in a filter-normalised direction.
    assert not np.any(lines["line_random"]["loss"])


@pytest.mark.parametrize(
    ("error", "remark"),
    [
        (never_wrong, r"less than shown.* 10 "),
        (always_worse, r"more than shown.* 1e-05 "),
    ],
)
def test_a_search_that_hits_its_bound_says_so(tiny, error, remark):
    found = measured("pac-bayes", tiny, error=error, samples=2)
    assert re.search(remark, found.remark)
    found = measured("maximal", tiny, error=error)
    assert re.search(remark, found.remark)


def test_escape_says_when_descent_is_no_good(tiny):
    search = {"paths": 2, "jumps": 1}
    calm = replaced(tiny, learning_rate=0.1)
    found = measured("escape", calm, **search)
    # A bowl has no way out. The error of a share of none is that of Wilson's interval.
    share, error = found.scalars["escape_isotropic"]
    assert share == 0.0 and error == pytest.approx(1 / 4 / 1.5)
    assert found.curves["escape_eigenvector"]["jumps"] == [1]
    assert found.remark == ""
    slow = replaced(tiny, learning_rate=1e-4)
    assert "gradient" in measured("escape", slow, **search).remark
    wild = replaced(tiny, learning_rate=0.3)
    assert re.search(r"\b8\b.*\b6\.67\b", measured("escape", wild, **search).remark)


def test_a_descent_that_diverges_is_a_remark(tiny):
    def no_minimum(params, split):
        return quadratic(params - 1.0, split)

    wild = replaced(tiny, learning_rate=30.0)
    found = measured("escape", wild, loss=no_minimum, paths=1, jumps=1)
    assert all(math.isnan(value) for value, _ in found.scalars.values())
    assert "diverges" in found.remark


def test_losses_are_those_of_the_evaluation_on_any_number_of_devices(
    tiny, tiny_dataset
):
    train = tiny_dataset.train
    predict, init = build_network(
        tiny.model, train.images.shape[1:], 10, tiny.data.pixel_range
    )
    params = jax.jit(init)(random_streams(0).weights)
    loss, accuracy = jax.jit(lambda params: evaluate(predict, params, train))(params)
    gradients = []
    for mesh in (None, data_mesh(3)):
        network = trained_network(tiny, replicate(mesh, params), train, 10, mesh)

        @jax.jit
        def both(params, split, network=network):
            found = jax.value_and_grad(network.loss)(params, split)
            return *found, network.error(params, split)

        value, gradient, error = both(network.params, network.train)
        np.testing.assert_allclose(value, loss, rtol=1e-5)
        np.testing.assert_allclose(error, 1 - accuracy, atol=1e-6)
        gradients.append(gradient)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-6), *gradients
    )


def test_runs_of_other_seeds_share_what_is_compiled(tiny, tiny_dataset):
    train = tiny_dataset.train
    other = replaced(tiny, seed=5, method="balanced")
    one, two = (trained_network(each, None, train, 10) for each in (tiny, other))
    assert one.loss == two.loss and one.error == two.error
    assert (jax.random.key_data(one.key) != jax.random.key_data(two.key)).any()


def test_a_record_comes_back_and_damage_counts_as_nothing(tmp_path):
    path = tmp_path / "measurements.json"
    assert read_record(path) == {}
    curve = {"jumps": [1, 2], "loss": [0.5, math.inf]}
    outcome = Measurement(
        {"a": (1e-9, 2.0), "b": (math.nan, None)}, {"c": curve}, "why"
    )
    record = {"trace": Measured({"num_samples": 3}, outcome, 2.04)}
    write_record(path, record)
    assert "NaN" not in path.read_text("utf-8")
    found = read_record(path)["trace"]
    assert found.arguments == {"num_samples": 3} and found.seconds == 2.0
    assert found.outcome.scalars["a"] == (1e-9, 2.0)
    assert math.isnan(found.outcome.scalars["b"][0])
    assert found.outcome.curves["c"]["jumps"] == [1.0, 2.0]
    assert math.isnan(found.outcome.curves["c"]["loss"][1])
    assert found.outcome.remark == "why"
    whole = path.read_text("utf-8")
    wrong_error = whole.replace('"standard_error": 2.0', '"standard_error": "x"')
    assert wrong_error != whole
    for text in (
        *("", "{", "[1]", "null", "[" * 9999, whole[:-9], wrong_error),
        *('{"trace": 1}', '{"trace": {"scalars": []}}'),
    ):
        path.write_text(text, encoding="utf-8")
        assert read_record(path) == {}


def test_arguments_are_compared_as_they_are_written():
    assert in_words({"a": (1, 0.1)}) == in_words({"a": [1, 0.1]})
    assert in_words({"a": 1}) != in_words({"a": 2})
    assert in_words({"a": 1}) != in_words({"a": 1, "b": None})
