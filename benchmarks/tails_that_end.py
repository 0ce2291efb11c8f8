"""Tails that end, draws that depend on each other, and whether the variance exists.

Of each law or series, samples of one size. `truncated`: how often the intervals of
`truncated_pareto` hold index and end (shares of the untruncated law that are kept: 0.9,
0.99, 0.999), how often the test says that there is an end, with it the closed form of
Beirlant et al. (2016, as `trTest` of R's ReIns has it) and the interval of Hill's
estimate. `dependent`: how often the interval of Hill's estimate holds the index as it
is, and widened, and how often independence is rejected. `moment`: how often the variance
is called finite. Levels are 1 % for the end and independence, 5 % for the moment.

    python benchmarks/tails_that_end.py --out benchmarks/results/tails_that_end.csv
"""

import argparse
import math

import jax
import jax.numpy as jnp
import numpy as np
import result_file
import scipy.stats
from tail_laws import (
    BETWEEN,
    FARTHER_POWER_LAWS,
    LIGHT_TAILS,
    POWER_LAWS,
    SERIES,
    TAILS_THAT_END,
)

from heavytail_optax import tail_index

SIZE = 10_000
FIXED_K = (115, 386)


def percent(values: np.ndarray) -> str:
    """The share that is true."""
    return f"{100 * float(np.mean(values)):.1f}"


def beirlant(draws: np.ndarray, k: int) -> np.ndarray:
    """The p-value of "the tail does not end" of the closed-form test."""
    top = -np.sort(-draws, axis=1)[:, : k + 1].astype(np.float64)
    logs = np.log(top[:, :k] / top[:, k:])
    mean = np.exp(-logs / logs.mean(axis=1, keepdims=True)).mean(axis=1)
    return scipy.stats.norm.cdf(math.sqrt(12 * k) * (mean - 0.5) / (1 - mean))


def of_truncated(draws: np.ndarray, index: float, end: float, k: int) -> dict[str, str]:
    """Coverage and power of the fit of a power law up to an end."""
    found = tail_index.truncated_pareto(draws, k)
    hill = tail_index.hill(draws, k)
    row = {"end_said": percent(found.p_value < 0.01)}
    row["end_said_by_beirlant"] = percent(beirlant(draws, k) < 0.01)
    row["capped"] = percent(found.is_capped)
    if index < math.inf:
        row["index_covered"] = percent((found.lower <= index) & (index <= found.upper))
        row["hill_covered"] = percent((hill.lower <= index) & (index <= hill.upper))
        row["end_covered"] = percent(
            (found.end_lower <= end) & (end <= found.end_upper)
        )
    return row


def of_series(draws: np.ndarray, index: float, k: int) -> dict[str, str]:
    """Coverage of Hill's interval, and what is said of independence."""
    found = tail_index.extremal_index(draws, k)
    widened = tail_index.hill(draws, k, variance_inflation=found.variance_inflation)
    hill = tail_index.hill(draws, k)
    row = {"dependence_said": percent(found.p_value < 0.01)}
    row["median_extremal_index"] = f"{np.median(found.estimate):.2f}"
    row["median_inflation"] = f"{np.median(found.variance_inflation):.2f}"
    row["hill_covered"] = percent((hill.lower <= index) & (index <= hill.upper))
    row["widened_covered"] = percent(
        (widened.lower <= index) & (index <= widened.upper)
    )
    return row


COLUMNS = (
    *("part", "law", "tail_index", "end", "draws", "k", "end_said"),
    *("end_said_by_beirlant", "capped", "index_covered", "end_covered", "hill_covered"),
    *("widened_covered", "dependence_said", "median_extremal_index"),
    *("median_inflation", "variance_finite_said"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []

    def add(
        part: str, law: str, index: float, draws: np.ndarray, **others: str
    ) -> None:
        line = {"part": part, "law": law, "tail_index": f"{index:g}"}
        line |= {"draws": str(draws.shape[1]), **others}
        rows.append({name: line.get(name, "") for name in COLUMNS})
        print("  ".join(f"{name} {text}" for name, text in line.items()), flush=True)

    def sampled(sample, seed: int, size: int = SIZE) -> np.ndarray:
        key = jax.random.key(seed)
        return np.abs(np.asarray(jax.jit(sample, static_argnums=1)(key, (num, size))))

    num = arguments.samples
    endless = {
        name: (*law, math.inf) for name, law in (POWER_LAWS | LIGHT_TAILS).items()
    }
    ending = {name: (a, s, end) for name, (a, s, end) in TAILS_THAT_END.items()}
    for law, (index, sample, end) in (ending | endless).items():
        draws = sampled(sample, 1)
        for k in FIXED_K:
            row = of_truncated(draws, index, end, k)
            add("truncated", law, index, draws, end=f"{end:g}", k=str(k), **row)
    for law, (index, series) in SERIES.items():
        draws = np.stack([series(np.random.default_rng(i), SIZE) for i in range(num)])
        for k in (50, *FIXED_K):
            row = of_series(draws.astype(np.float32), index, k)
            add("dependent", law, index, draws, k=str(k), **row)
    for law, (index, sample) in (
        POWER_LAWS | FARTHER_POWER_LAWS | BETWEEN | LIGHT_TAILS
    ).items():
        for size in (1200, SIZE):
            draws = sampled(sample, 2, size)
            found = tail_index.finite_moment_test(jnp.asarray(draws), key=3)
            said = percent(found.p_value < 0.05)
            add("moment", law, index, draws, variance_finite_said=said)
    result_file.write(arguments.out, rows, num)


if __name__ == "__main__":
    main()
