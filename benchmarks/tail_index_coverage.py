"""Bias of the estimators of the tail index, and how often their intervals cover it.

Of each law replications of a sample are drawn. The estimators of the tail are given the
absolute values, at four fixed k and at the k that the automatic choices take (`hill,
uncorrected`: the interval of an exact power law); those of a stable law the draws. Covered
is the tail index; of the light-tailed laws, whose index is infinite, gamma = 0, by the
estimators that can say so.
The absolute values of Laplace's law are exponential, and have gamma = 0 at every k; those
of a Gaussian only in the limit.

    python benchmarks/tail_index_coverage.py --out benchmarks/results/tail_index_coverage.csv
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import result_file
from tail_laws import FARTHER_POWER_LAWS, LIGHT_TAILS, POWER_LAWS

import heavytail_optax as hto

TI = hto.tail_index
SIZE = 10_000
FIXED_K = (50, 100, 500, 1000)


LAWS = POWER_LAWS | LIGHT_TAILS | FARTHER_POWER_LAWS


def estimates(draws: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    """Estimate, standard error and interval of alpha by each estimator, stacked.

    Args:
      draws: one sample.
      key: for the bootstrap.
    """
    sizes = jnp.abs(draws)
    results = {}
    for k in FIXED_K:
        results |= {
            f"hill, k = {k}": TI.hill(sizes, k),
            f"hill, uncorrected, k = {k}": TI.hill(sizes, k, interval="uncorrected"),
            f"extended_pareto, k = {k}": TI.extended_pareto(sizes, k),
            f"kernel, k = {k}": TI.kernel_hill(sizes, k),
            f"moment, k = {k}": TI.moment_estimator(sizes, k),
            f"pickands, k = {k}": TI.pickands(sizes, k),
            f"generalised_pareto, k = {k}": TI.generalised_pareto(sizes, k),
        }
    bootstrap = TI.choose_k_by_bootstrap(sizes, key=key, num_resamples=100)
    distance = TI.choose_k_by_distance(sizes, num_candidates=100, num_points=400)
    results["hill, k by bootstrap"] = bootstrap.index
    results["hill, k by distance"] = distance.index
    results["log_moment"] = TI.log_moment(draws)
    results["characteristic_function"] = TI.characteristic_function(draws)
    rows = {}
    for name, result in results.items():
        k = getattr(result, "k", jnp.zeros((), jnp.int32))
        gamma = getattr(result, "gamma", 1.0 / result.estimate)
        rows[name] = jnp.stack([*result[:4], gamma, k.astype(gamma.dtype)])
    return rows


def replicate(sample, num: int, seed: int) -> dict[str, np.ndarray]:
    """The estimates of each replication: name -> shape (num, 6)."""

    def one(key):
        draw_key, bootstrap_key = jax.random.split(key)
        return estimates(sample(draw_key, (SIZE,)), bootstrap_key)

    keys = jax.random.split(jax.random.key(seed), num)
    run = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=50))
    return jax.tree.map(np.asarray, run(keys))


def row(law: str, truth: float, name: str, values: np.ndarray) -> dict[str, str]:
    """One line of the table."""
    estimate, error, lower, upper, gamma, k = values.T
    covers = (lower <= truth) & (truth <= upper)
    is_light = np.isinf(truth)
    if is_light:
        # The interval of alpha ends at infinity where that of gamma reaches zero, and
        # begins there where all of it is below.
        covers = np.isinf(upper) & np.isfinite(lower)
    if is_light and not name.startswith(("moment", "pickands", "generalised")):
        covers = None  # these have no interval that could cover it
    # A draw of exactly zero, one in ten million, has no logarithm: such a sample is not
    # covered, and counts in nothing else.
    is_known = ~np.isnan(estimate)
    estimate, error, gamma = estimate[is_known], error[is_known], gamma[is_known]
    median = np.median(estimate)
    return {
        "law": law,
        "estimator": name,
        "median_k": "" if not k.any() else f"{np.median(k):.0f}",
        "tail_index": f"{truth:g}",
        "median_estimate": f"{median:.3f}",
        "bias_of_median": "" if is_light else f"{median - truth:+.3f}",
        "mean_gamma": f"{np.mean(gamma):.3f}",
        "spread_of_estimate": "" if is_light else f"{_spread(estimate):.3f}",
        "median_standard_error": "" if is_light else f"{np.median(error):.3f}",
        "coverage": "" if covers is None else f"{100 * np.mean(covers):.1f} %",
    }


def _spread(values: np.ndarray) -> float:
    """The standard deviation that a normal law of these quartiles has."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float((high - low) / 1.349)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for seed, (law, (truth, sample)) in enumerate(LAWS.items()):
        start = time.perf_counter(), time.process_time()
        for name, values in replicate(sample, arguments.replications, seed).items():
            line = row(law, truth, name, values)
            print("  ".join(f"{value:>12}" for value in line.values()), flush=True)
            rows.append(line)
        wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        print(f"{law}: {wall:.0f} s, {cpu:.0f} s of CPU", flush=True)
    result_file.write(arguments.out, rows, arguments.replications)


if __name__ == "__main__":
    main()
