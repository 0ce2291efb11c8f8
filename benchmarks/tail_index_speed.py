"""Time of a tail index of ten million draws, beside the `powerlaw` package.

Three questions, each answered by both, one after the other, on the same Pareto draws in
float32, by the Kolmogorov-Smirnov distance where there is a choice:

- the index above a given threshold;
- at the best of `--thresholds` thresholds: `powerlaw` looks at every draw in a range as a
  threshold, so at that many next to each other, ours at as many over the range;
- at the best threshold among the `--search` largest draws: `powerlaw` looks at each, ours
  at its default of 200, evenly in log k. (By default `powerlaw` looks at all ten million.)

Ours is timed without compilation; `first_call_s` is with it.

    pip install powerlaw
    python benchmarks/tail_index_speed.py --out benchmarks/results/tail_index_speed.csv
"""

import argparse
import time
import warnings

import jax
import numpy as np
import result_file

import heavytail_optax as hto

TI = hto.tail_index


def timed(function, repeats: int) -> tuple[float, object]:
    """Least seconds of a call, and what it returned."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return min(times), result


def main() -> None:
    import powerlaw

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10**7)
    parser.add_argument("--k", type=int, default=10_000)
    parser.add_argument("--thresholds", type=int, default=50)
    parser.add_argument("--search", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    size, k, thresholds = arguments.size, arguments.k, arguments.thresholds
    draws = hto.tails.pareto(1.5).sample(jax.random.key(0), (size,))
    numbers = np.asarray(draws, np.float64)
    descending = np.sort(numbers)[::-1]

    def ours_at_k():
        return TI.hill(draws, k).estimate

    def ours_at_best():
        choice = TI.choose_k_by_distance(draws, max_k=k, num_candidates=thresholds)
        return choice.index.estimate

    def ours_by_search():
        return TI.choose_k_by_distance(draws, max_k=arguments.search).index.estimate

    def theirs_at_k():
        fit = powerlaw.Fit(numbers, xmin=descending[k], verbose=False)
        return fit.power_law.alpha - 1.0

    def theirs_at_best():
        # The upper end is left out, and so is the last of the draws in between.
        ends = descending[k], descending[k - thresholds - 1]
        fit = powerlaw.Fit(numbers, xmin=ends, verbose=False)
        return fit.power_law.alpha - 1.0

    def theirs_by_search():
        ends = descending[arguments.search], descending[9]
        fit = powerlaw.Fit(numbers, xmin=ends, verbose=False)
        return fit.power_law.alpha - 1.0

    rows = []
    for task, ours, theirs in (
        (f"at k = {k}", ours_at_k, theirs_at_k),
        (f"best of {thresholds} thresholds", ours_at_best, theirs_at_best),
        (f"best of the {arguments.search} largest", ours_by_search, theirs_by_search),
    ):
        compiling, _ = timed(ours, 1)
        our_time, our_index = timed(ours, arguments.rounds)
        their_time, their_index = timed(theirs, 1)
        line = {
            "draws": size,
            "task": task,
            "first_call_s": f"{compiling:.3g}",
            "ours_s": f"{our_time:.3g}",
            "powerlaw_s": f"{their_time:.3g}",
            "times_faster": f"{their_time / our_time:.0f}",
            "our_index": f"{our_index:.4f}",
            "powerlaw_index": f"{their_index:.4f}",
        }
        print(line, flush=True)
        rows.append(line)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
