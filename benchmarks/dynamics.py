r"""Chain-steps a second of the simulation, beside vectorised NumPy and a Numba loop.

The same process, truncated heavy-tailed SGD on the landscape of four minima, by three
programs, each on one core: `hto.dynamics.simulate` (32-bit floats, compiled by XLA),
NumPy on arrays of all chains (64-bit), and a loop over steps for each chain in turn,
compiled by Numba with fastmath (64-bit; `pip install "heavytail-optax[bench]"`). All
three count the time in each field at every step; `simulate` also counts time near minima
and transitions. "by optax_process" is the general path, where each chain has its own
Optax chain.

All are timed in every round, in a new random order, so that a busy machine hits each
alike; a round's ratio is the speed over that of the reference in the same round. Speed
is by the processor time of the process, which other programs on the machine do not add
to. Printed are medians over the rounds, and the quartiles of the ratios.

    python benchmarks/dynamics.py --out benchmarks/results/dynamics.csv
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import numba
import numpy as np
import optax
import result_file

import heavytail_optax as hto

ETA, MAX_NORM, ALPHA, SCALE, START = 1e-3, 0.5, 1.2, 0.1, -0.7
TAIL = hto.tails.symmetric_pareto(ALPHA)
LANDSCAPE = hto.dynamics.four_minima()


def numpy_gradient(x: np.ndarray) -> np.ndarray:
    """f' of the four minima, as in the package."""
    root = (x + 1.3) * (x - 0.2) * (x - 0.7)
    root_slope = (x - 0.2) * (x - 0.7) + (x + 1.3) * (2.0 * x - 0.9)
    walls = x * x - 2.56
    near_right = 0.01 + 4.0 * (x - 0.5) ** 2
    near_left = 0.1 + 4.0 * (x + 1.5) ** 2
    bump = 0.25 * np.exp(-5.0 * (x + 0.8) ** 2)
    factor = (
        (0.05 * np.abs(1.65 - x)) ** 0.6
        * (1.0 + 1.0 / near_right)
        * (1.0 + 1.0 / near_left)
        * (1.0 - bump)
    )
    log_slope = (
        -0.6 / (1.65 - x)
        - 8.0 * (x - 0.5) / (near_right * (near_right + 1.0))
        - 8.0 * (x + 1.5) / (near_left * (near_left + 1.0))
        + 10.0 * (x + 0.8) * bump / (1.0 - bump)
    )
    slope = 2.0 * x * root + walls * (2.0 * root_slope + root * log_slope)
    return root * factor * slope


def by_numpy(num_chains: int, num_steps: int, seed: int) -> np.ndarray:
    """The share of time in each field, by arrays of all chains."""
    rng = np.random.default_rng(seed)
    x = np.full(num_chains, START)
    counts = np.zeros(5, np.int64)
    for _ in range(num_steps):
        uniform = 1.0 - rng.random(num_chains)
        sign = np.where(rng.random(num_chains) < 0.5, -1.0, 1.0)
        noise = SCALE * sign * uniform ** (-1.0 / ALPHA)
        update = np.clip(ETA * (numpy_gradient(x) + noise), -MAX_NORM, MAX_NORM)
        x = np.clip(x - update, -1.6, 1.6)
        for index, end in enumerate(LANDSCAPE.maxima):
            counts[index + 1] += np.count_nonzero(x >= end)
    counts[0] = num_chains * num_steps
    return -np.diff(counts) / counts[0]


compiled_gradient = numba.njit(fastmath=True)(numpy_gradient)


@numba.njit(fastmath=True)
def numba_loop(num_chains: int, num_steps: int, seed: int, ends: np.ndarray):
    np.random.seed(seed)
    counts = np.zeros(4, np.int64)
    for _ in range(num_chains):
        x = START
        for _ in range(num_steps):
            signed = 2.0 * np.random.random() - 1.0
            size = abs(signed) ** (-1.0 / ALPHA)
            noise = SCALE * size if signed > 0.0 else -SCALE * size
            update = ETA * (compiled_gradient(x) + noise)
            update = min(MAX_NORM, max(-MAX_NORM, update))
            x = min(1.6, max(-1.6, x - update))
            counts[(x >= ends[0]) + (x >= ends[1]) + (x >= ends[2])] += 1
    return counts / (num_chains * num_steps)


def by_numba(num_chains: int, num_steps: int, seed: int) -> np.ndarray:
    return numba_loop(num_chains, num_steps, seed, np.asarray(LANDSCAPE.maxima))


def by_simulate(process: object, record_every: int = 1) -> Callable:
    def run(num_chains: int, num_steps: int, seed: int) -> np.ndarray:
        result = hto.dynamics.simulate(
            LANDSCAPE,
            process,
            key=seed,
            start=START,
            num_steps=num_steps,
            num_chains=num_chains,
            record_every=record_every,
        )
        return result.field_counts.mean(axis=0) / result.num_records

    return run


def optimizer(key):
    return optax.chain(
        hto.add_heavy_tailed_noise(TAIL, SCALE, key=key),
        optax.sgd(ETA),
        hto.truncate_update_norm(MAX_NORM),
    )


def programs() -> dict[str, tuple[Callable, float]]:
    """Name -> (program, share of the steps to give it, since some are slow)."""
    fast = hto.dynamics.sgd_process(ETA, MAX_NORM, TAIL, SCALE)
    general = hto.dynamics.optax_process(optimizer)
    return {
        "simulate": (by_simulate(fast), 1.0),
        "simulate, record_every=10": (by_simulate(fast, 10), 1.0),
        "simulate, by optax_process": (by_simulate(general), 0.05),
        "NumPy": (by_numpy, 0.05),
        "Numba": (by_numba, 0.2),
    }


def measure(num_chains: int, num_steps: int, rounds: int) -> list[dict]:
    runs = programs()
    speeds = {name: [] for name in runs}
    walls = {name: [] for name in runs}
    shares = {}
    for name, (run, part) in runs.items():  # compiles
        run(num_chains, max(10, int(num_steps * part) // 10 * 10), 0)
    order = random.Random(0)
    for index in range(rounds):
        for name in order.sample(sorted(runs), len(runs)):
            run, part = runs[name]
            steps = max(10, int(num_steps * part) // 10 * 10)
            wall, start = time.perf_counter(), time.process_time()
            shares[name] = run(num_chains, steps, index + 1)
            speeds[name].append(num_chains * steps / (time.process_time() - start))
            walls[name].append(num_chains * steps / (time.perf_counter() - wall))
    rows = []
    for name in runs:
        row = {
            "chains": num_chains,
            "program": name,
            "million_chain_steps_a_cpu_second": (
                f"{1e-6 * statistics.median(speeds[name]):.4g}"
            ),
            "ns_a_chain_step": f"{1e9 / statistics.median(speeds[name]):.3g}",
            "million_chain_steps_a_wall_second": (
                f"{1e-6 * statistics.median(walls[name]):.4g}"
            ),
        }
        for reference in ("NumPy", "Numba"):
            ratios = [
                own / other
                for own, other in zip(speeds[name], speeds[reference], strict=True)
            ]
            low, middle, high = statistics.quantiles(ratios, n=4)
            key = f"times_{reference.lower()}"
            row |= {
                key: f"{middle:.2f}",
                f"{key}_lower_quartile": f"{low:.2f}",
                f"{key}_upper_quartile": f"{high:.2f}",
            }
        rows.append(row | {"share_in_field_1": f"{shares[name][1]:.4f}"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for num_chains in arguments.chains:
        for row in measure(num_chains, arguments.steps, arguments.rounds):
            print(
                f"{row['chains']:>6} chains  {row['program']:<28}"
                f"{row['million_chain_steps_a_cpu_second']:>8} M a CPU second, "
                f"{row['ns_a_chain_step']:>6} ns  x NumPy {row['times_numpy']} "
                f"[{row['times_numpy_lower_quartile']}, "
                f"{row['times_numpy_upper_quartile']}]  x Numba {row['times_numba']} "
                f"[{row['times_numba_lower_quartile']}, "
                f"{row['times_numba_upper_quartile']}]",
                flush=True,
            )
            rows.append(row)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
