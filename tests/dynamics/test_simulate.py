"""The counts of `simulate` against a plain recount, and laws in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import heavytail_optax as hto
from heavytail_optax._keys import tagged_key
from heavytail_optax.dynamics import _simulate

LANDSCAPE = hto.dynamics.four_minima()
TAIL = hto.tails.symmetric_pareto(1.2)
INF = float("inf")


def recount(positions, radii, landmarks):
    """All counts from the records of one chain, in plain Python."""
    minima = np.asarray(LANDSCAPE.minima)
    fields, near = np.zeros(4, int), np.zeros(4, int)
    labels, moves = np.zeros(4, int), np.zeros((4, 4), int)
    label = min(landmarks, key=lambda k: abs(positions[0] - minima[k]))
    for x in positions[1:]:
        fields[int(np.searchsorted(LANDSCAPE.maxima, x, side="right"))] += 1
        for k in range(4):
            if abs(x - minima[k]) < radii[k]:
                near[k] += 1
                if k in landmarks and k != label:
                    moves[label, k] += 1
                    label = k
        labels[label] += 1
    return fields, near, labels, moves


@pytest.mark.parametrize(("landmarks", "record_every"), [(None, 1), ((1, 3), 3)])
def test_counts_are_those_of_the_paths(landmarks, record_every):
    process = hto.dynamics.sgd_process(1e-3, 0.5, TAIL, 20.0)
    num_steps, num_chains, start = 300, 6, np.linspace(-1.5, 1.5, 6)
    got = hto.dynamics.simulate(
        *(LANDSCAPE, process),
        key=5,
        start=start,
        num_steps=num_steps,
        num_chains=num_chains,
        record_every=record_every,
        landmarks=landmarks,
    )
    positions = jnp.asarray(start, jnp.float32)
    state = process.init(LANDSCAPE, positions, key=tagged_key(5, "simulate"))
    step = jax.jit(lambda state, x: process.step(LANDSCAPE, state, x))
    path = [positions]
    for _ in range(num_steps):
        positions, state = step(state, positions)
        path.append(positions)
    records = np.asarray(path)[::record_every]
    counts = [
        recount(records[:, n], 0.5 * LANDSCAPE.widths, landmarks or range(4))
        for n in range(num_chains)
    ]
    np.testing.assert_array_equal(got.field_counts, [c[0] for c in counts])
    np.testing.assert_array_equal(got.near_counts, [c[1] for c in counts])
    np.testing.assert_array_equal(got.label_counts, [c[2] for c in counts])
    np.testing.assert_array_equal(got.transitions, sum(c[3] for c in counts))
    assert got.transitions.sum() > 5
    np.testing.assert_array_equal(got.visits, got.transitions.sum(axis=0))
    np.testing.assert_allclose(got.positions, records[-1], atol=1e-6)


def test_chunks_and_burn_in_change_nothing(monkeypatch):
    process = hto.dynamics.sgd_process(1e-3, 0.5, TAIL, 5.0)
    options = {"key": 1, "start": 0.5, "num_chains": 8}
    whole = hto.dynamics.simulate(LANDSCAPE, process, num_steps=90, **options)
    late = hto.dynamics.simulate(
        LANDSCAPE, process, num_steps=60, burn_in=30, **options
    )
    monkeypatch.setattr(_simulate, "_CHUNK", 8 * 7)
    parts = hto.dynamics.simulate(LANDSCAPE, process, num_steps=90, **options)
    for name in ("field_counts", "near_counts", "label_counts", "transitions"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    np.testing.assert_array_equal(whole.positions, parts.positions)
    np.testing.assert_array_equal(whole.positions, late.positions)
    early = hto.dynamics.simulate(LANDSCAPE, process, num_steps=30, **options)
    np.testing.assert_array_equal(
        late.field_counts, whole.field_counts - early.field_counts
    )
    # 13 chunks of up to 7 records, and 8 positions at the end of each.
    assert parts.snapshots.sum() == 13 * 8
    other = hto.dynamics.simulate(
        LANDSCAPE, process, num_steps=90, **(options | {"key": 2})
    )
    assert not np.array_equal(other.positions, whole.positions)


def test_light_tails_have_the_variance_of_the_autoregression():
    eta, kappa, scale = 0.1, 1.0, 1.0
    variance = (eta * scale) ** 2 / (1.0 - (1.0 - eta * kappa) ** 2)
    well = hto.dynamics.quadratic(kappa, INF, INF)
    process = hto.dynamics.sgd_process(eta, INF, hto.tails.gaussian(), scale)
    result = hto.dynamics.simulate(
        *(well, process), key=0, start=0.0, num_steps=200, num_chains=4096
    )
    standard = result.positions / np.sqrt(variance)
    # A right law fails once in a million keys; one with 15 % more variance does.
    assert scipy.stats.kstest(standard, "norm").pvalue > 1e-6
    statistic = np.sum(standard**2)
    interval = scipy.stats.chi2.ppf([5e-7, 1.0 - 5e-7], 4096)
    assert interval[0] < statistic < interval[1]
    assert not interval[0] < 1.15 * statistic < interval[1]


def test_gradient_descent_stays_where_the_learning_rate_is_small():
    """theory.md, trap 6: at 1e-3 the learning rate alone leaves no sharp minimum."""
    minima = np.repeat(LANDSCAPE.minima, 4)
    start = minima + np.tile([-0.05, -0.01, 0.01, 0.05], 4)
    curvatures = np.asarray([LANDSCAPE.curvature(k) for k in range(4)])
    for eta, num_unstable in ((1e-3, 0), (1e-2, 1)):
        process = hto.dynamics.sgd_process(eta, INF, hto.tails.gaussian(), 0.0)
        result = hto.dynamics.simulate(
            *(LANDSCAPE, process), key=0, start=start, num_steps=3000, num_chains=16
        )
        distances = np.abs(result.positions - minima).reshape(4, 4)
        # The trap: a larger one is not even stable at the sharpest minimum. The path
        # there is chaotic, so any single point of it may be close to the minimum.
        is_stable = eta * curvatures < 2.0
        assert np.sum(~is_stable) == num_unstable
        assert np.all(distances[is_stable] < 1e-4)
        assert np.all(np.sqrt(np.mean(distances[~is_stable] ** 2, axis=1)) > 1e-2)
        if eta == 1e-3:
            own = result.field_counts[np.arange(16), np.repeat(np.arange(4), 4)]
            assert np.all(own == 3000)


def test_in_space_the_factors_move_as_if_alone():
    plane = hto.dynamics.product_landscape(
        [LANDSCAPE, hto.dynamics.quadratic(1.0, 0.9, 0.7)]
    )
    process = hto.dynamics.sgd_process(1e-3, 0.5, TAIL, 1.0)
    result = hto.dynamics.simulate(
        *(plane, process), key=0, start=[-0.7, 0.0], num_steps=50, num_chains=16
    )
    assert result.positions.shape == (16, 2)
    assert result.snapshots is None
    outside = result.num_records - result.field_counts.sum(axis=1)
    assert outside.min() >= 0


def test_chains_that_diverge_are_told():
    well = hto.dynamics.quadratic(1.0, INF, INF)
    process = hto.dynamics.sgd_process(3.0, INF, TAIL, 1.0)
    with pytest.raises(FloatingPointError, match="Lower its learning rate"):
        hto.dynamics.simulate(
            *(well, process), key=0, start=0.0, num_steps=1000, num_chains=4
        )


def test_steps_too_small_for_the_dtype_are_refused():
    process = hto.dynamics.sgd_process(1e-7, 0.5, TAIL, 0.1)
    options = {"key": 0, "start": 0.5, "num_steps": 1, "num_chains": 2}
    with pytest.raises(ValueError, match="float64 has more digits"):
        hto.dynamics.simulate(LANDSCAPE, process, **options)
    with jax.enable_x64(True):
        result = hto.dynamics.simulate(LANDSCAPE, process, **options)
    assert result.positions.dtype == np.float64


def test_occupation_is_the_mean_over_chains():
    counts = np.random.default_rng(0).integers(0, 100, (50, 3))
    share, error = hto.dynamics.occupation(counts, 100)
    np.testing.assert_allclose(share, counts.mean(axis=0) / 100)
    np.testing.assert_allclose(error, scipy.stats.sem(counts / 100))
    np.testing.assert_allclose(
        hto.dynamics.occupation(counts[:, 0], 100).share, share[0]
    )
