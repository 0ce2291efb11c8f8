"""Exit times by the rare-event estimator, beside the theory and direct simulation.

For quadratic wells and the four minima, over eight decades of the learning rate: the mean
exit time over that of the theory, which must tend to one; the CPU time of one process for
a relative error of 1 %; and what direct simulation of 10,000 exits would cost at the time
per step measured in the same run. Where that is short, direct simulation is run and set
beside the estimate. The column `notes` has the ratio of `theory.md`, where it has one.

    python benchmarks/rare_events.py --out benchmarks/results/rare_events.csv
"""

import argparse
import functools
import math
import time
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import result_file

import heavytail_optax as hto
from heavytail_optax._random import random_words, signed_uniform_from_words

MAX_NORM, NUM_CHAINS, STEPS_AT_ONCE = 0.5, 1024, 2000
ONE = hto.dynamics.quadratic(1.0, 0.3, 0.4)
TWO = hto.dynamics.quadratic(1.0, 0.9, 0.7)
THREE = hto.dynamics.quadratic(1.0, math.inf, 1.2)
FOUR = hto.dynamics.four_minima()
DECADES = (1e-3, 1e-4, 1e-5, 1e-7, 1e-9, 1e-11)
NOTES = {
    ("one", 1.2, 0.1): (0.939, 0.960, 0.974, 0.990, 0.995, 0.998),
    ("one", 1.5, 1.0): (0.551, 0.809, 0.940, 0.994, 0.999, 1.000),
    ("two", 1.2, 0.1): (0.842, 0.890, 0.927, 0.984, 1.017, 0.977),
    ("two", 1.5, 1.0): (0.449, 0.613, 0.858, 0.984, 0.976, 1.001),
}


def case(
    landscape: hto.dynamics.Landscape,
    field: int,
    alpha: float,
    scale: float,
    eta: float,
    number: int,
    note: float | None,
) -> dict[str, Any]:
    return {"landscape": landscape, "field": field, "alpha": alpha} | {
        "scale": scale,
        "eta": eta,
        "number": number,
        "note": note,
    }


def cases(quick: bool) -> list[dict[str, Any]]:
    rows = []
    for name, landscape, alpha, scale, number in (
        ("one", ONE, 1.2, 0.1, 20_000),
        ("one", ONE, 1.5, 0.1, 20_000),
        ("one", ONE, 1.5, 1.0, 20_000),
        ("two", TWO, 1.2, 0.1, 60_000),
        ("two", TWO, 1.5, 0.1, 60_000),
        ("two", TWO, 1.5, 1.0, 60_000),
    ):
        notes = NOTES.get((name, alpha, scale), (None,) * len(DECADES))
        for eta, note in zip(DECADES, notes, strict=True):
            rows.append(case(landscape, 0, alpha, scale, eta, number, note))
    short = {"burn_in": 0.6, "window": 0.5}  # longer than the waits of a way out
    rows.append(case(THREE, 0, 1.5, 0.1, 1e-9, 200_000, None) | {"times": short})
    for field, notes in enumerate(
        ((None,) * 3, (0.834, 0.934, 0.978), (None,) * 3, (0.837, 0.936, 0.966))
    ):
        for eta, note in zip((1e-3, 1e-5, 1e-9), notes, strict=True):
            number = (10_000, 160_000)[field % 2]
            rows.append(case(FOUR, field, 1.2, 0.1, eta, number, note))
    if quick:
        rows = [row | {"number": 1024} for row in rows[:2]]
    return rows


@functools.partial(jax.jit, static_argnames=("gradient",))
def _advance(
    gradient: Any, x: jax.Array, key: jax.Array, start: float, ends: Any, numbers: Any
) -> tuple[jax.Array, jax.Array]:
    """Chains that start anew at the minimum whenever they leave; and their exits."""
    eta, scale, alpha, (low, high) = numbers

    def step(index: int, carry: Any) -> Any:
        x, exits = carry
        words = random_words(jax.random.fold_in(key, index), x.shape)
        is_positive, uniform = signed_uniform_from_words(*words, x.dtype)
        size = scale * jnp.exp(-jnp.log(uniform) / alpha)
        z = jnp.where(is_positive, size, -size)
        update = eta * (jax.vmap(gradient)(x) + z)
        x = jnp.clip(x - jnp.clip(update, -MAX_NORM, MAX_NORM), low, high)
        has_left = (x <= ends[0]) | (x >= ends[1])
        return jnp.where(has_left, start, x), exits + has_left.sum()

    return jax.lax.fori_loop(0, STEPS_AT_ONCE, step, (x, jnp.zeros((), int)))


def direct(row: dict[str, Any], num_steps: float) -> tuple[float, float, float]:
    """Mean exit time, its relative standard error, and nanoseconds of CPU per step."""
    landscape, field = row["landscape"], row["field"]
    ends = landscape.ends[field : field + 2]
    projection = landscape.projection or (-math.inf, math.inf)
    start = landscape.minima[field]
    num_rounds = max(2, math.ceil(num_steps / NUM_CHAINS / STEPS_AT_ONCE))
    with jax.enable_x64(True):
        x, exits = jnp.full(NUM_CHAINS, start), 0
        key = jax.random.key(0)
        numbers = (row["eta"], row["scale"], row["alpha"], projection)
        for index in range(num_rounds + 1):
            if index == 1:  # compiled, and away from the start
                exits, begin = 0, time.process_time()
            x, more = _advance(
                landscape.gradient,
                x,
                jax.random.fold_in(key, index),
                start,
                ends,
                numbers,
            )
            exits += int(more)
    steps = num_rounds * NUM_CHAINS * STEPS_AT_ONCE
    seconds = time.process_time() - begin
    exits = max(exits, 1)
    return steps / exits, exits**-0.5, 1e9 * seconds / steps


def measure(row: dict[str, Any], key: int, longest: float) -> dict[str, Any]:
    noise = {
        "tail": hto.tails.symmetric_pareto(row["alpha"]),
        "scale": row["scale"],
        "max_norm": MAX_NORM,
    }
    rates = hto.dynamics.exit_rates(row["landscape"], **noise)
    theory = rates.mean_exit_times(row["eta"])[row["field"]]
    arguments = dict(learning_rate=row["eta"], **noise, **row.get("times", {}))
    place = (row["landscape"], row["field"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this one compiles
        hto.dynamics.rare_exit_rate(*place, key=0, num_samples=1024, **arguments)
    begin = time.process_time()
    result = hto.dynamics.rare_exit_rate(
        *place, key=key, num_samples=row["number"], **arguments
    )
    seconds = time.process_time() - begin
    relative = result.standard_error / result.rate
    ratio = 1.0 / result.rate / theory
    is_short = result.mean_exit_time * 500 < longest
    mean, error, nanoseconds = direct(
        row, 500 * result.mean_exit_time if is_short else 1.0
    )
    against = mean / result.mean_exit_time
    error = against * math.hypot(
        error, result.mean_exit_time_error / result.mean_exit_time
    )
    return {
        "landscape": row["landscape"].name,
        "field": row["field"],
        "jumps": int(rates.jumps[row["field"]]),
        "alpha": row["alpha"],
        "scale": row["scale"],
        "eta": f"{row['eta']:.0e}",
        "epsilon": f"{rates.criterion(row['eta'])[row['field']]:.2g}",
        "mean_exit_steps": f"{result.mean_exit_time:.4g}",
        "relative_error": f"{relative:.4f}",
        "to_theory": f"{ratio:.4f}",
        "to_theory_error": f"{ratio * relative:.4f}",
        "notes": row["note"] or "",
        "direct_to_estimate": f"{against:.3f}" if is_short else "",
        "direct_error": f"{error:.3f}" if is_short else "",
        "samples": result.sampling.num_samples,
        "effective": round(result.sampling.effective_samples),
        "us_a_sample": f"{1e6 * seconds / result.sampling.num_samples:.0f}",
        "cpu_s_for_1_percent": f"{seconds * (relative / 0.01) ** 2:.2g}",
        "direct_ns_a_step": f"{nanoseconds:.1f}",
        "direct_cpu_s": f"{1e4 * result.mean_exit_time * nanoseconds * 1e-9:.2g}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out")
    parser.add_argument("--quick", action="store_true", help="two rows, few samples")
    parser.add_argument(
        "--longest",
        "-l",
        type=float,
        default=1e9,
        help="direct simulation of 500 exits runs where it takes fewer steps than this",
    )
    options = parser.parse_args()
    rows = []
    for key, row in enumerate(cases(options.quick)):
        rows.append(measure(row, key, options.longest))
        print(" ".join(str(value) for value in rows[-1].values()), flush=True)
        result_file.write(options.out, rows, rounds=1)


if __name__ == "__main__":
    main()
