"""Time of each estimator of the tail, for many samples at once.

Beside them the search that all of them begin with, as it is and with its result cut into
two parts without a barrier: then XLA for CPUs sorts all draws.

    python benchmarks/tail_index_estimators.py --out benchmarks/results/tail_index_estimators.csv
"""

import argparse
import time

import jax
import numpy as np
import result_file

import heavytail_optax as hto
from heavytail_optax.tail_index._order_statistics import largest

TI = hto.tail_index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    k = arguments.k
    shape = (arguments.samples, arguments.size)
    draws = hto.tails.pareto(1.5).sample(jax.random.key(0), shape)

    @jax.jit
    def cut(draws):
        top = jax.lax.top_k(draws, k + 1)[0]
        return top[..., :-1] / top[..., -1:]

    tasks = {
        "largest": lambda: largest(draws, k + 1),
        "top_k, cut without a barrier": lambda: cut(draws),
    }
    for estimator in (
        TI.hill,
        TI.extended_pareto,
        TI.kernel_hill,
        TI.moment_estimator,
        TI.pickands,
        TI.generalised_pareto,
    ):
        tasks[estimator.__name__] = lambda run=estimator: run(draws, k)
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(arguments.rounds + 1):  # the first compiles
        for name, task in tasks.items():
            start = time.perf_counter()
            jax.block_until_ready(task())
            if number:
                times[name].append(1e3 * (time.perf_counter() - start))
    rows = [
        {
            "task": name,
            "milliseconds": f"{np.median(of_task):.0f}",
            "least": f"{min(of_task):.0f}",
            "most": f"{max(of_task):.0f}",
        }
        for name, of_task in times.items()
    ]
    for row in rows:
        print(row)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
