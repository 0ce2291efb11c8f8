r"""Exit times in R^d against the learning rate: the exponent that the jump count gives.

Truncated heavy-tailed SGD in a product of quadratic wells, with noise that is independent
in each coordinate or isotropic. With l steps of at most b needed to leave the field, by
`jumps_to_leave`, the mean exit time grows like eta^-(alpha + (l - 1)(alpha - 1)). For
independent coordinates the exit rate is the sum of those on the line, which `exit_rates`
gives: `theory` below.

    python benchmarks/exit_exponents.py --out benchmarks/results/exit_exponents.csv
"""

import argparse
import math

import numpy as np
import result_file

import heavytail_optax as hto
from heavytail_optax.laboratory.exit_times import ExitTime, mean_interval
from heavytail_optax.laboratory.exit_times import measured_slope as slope_of

ALPHA, SCALE, MAX_NORM = 1.5, 0.1, 0.5
TAIL = hto.tails.symmetric_pareto(ALPHA)
WELLS = {1: (0.3, 0.4), 2: (0.9, 0.7)}  # jumps needed -> distances of the ends


def process_of(direction: str, eta: float) -> object:
    if direction == "elementwise":
        return hto.dynamics.sgd_process(eta, MAX_NORM, TAIL, SCALE)

    def make(key):
        return hto.truncated_heavy_tailed_sgd(
            eta, MAX_NORM, TAIL, SCALE, key=key, direction="isotropic"
        )

    return hto.dynamics.optax_process(make)


def measure(
    dimension: int, jumps: int, direction: str, etas: list[float], num_exits: int
) -> list[dict]:
    well = hto.dynamics.quadratic(1.0, *WELLS[jumps])
    line = hto.dynamics.exit_rates(well, tail=TAIL, scale=SCALE, max_norm=MAX_NORM)
    box = hto.dynamics.product_landscape([well] * dimension) if dimension > 1 else well
    direction_of_jumps = {"max_norm": MAX_NORM, "direction": direction}
    counted = int(hto.dynamics.jumps_to_leave(box, key=0, **direction_of_jumps)[0])
    rows, points = [], []
    for eta in etas:
        theory = float(line.mean_exit_times(eta)[0]) / dimension
        exits = hto.dynamics.first_exit_times(
            *(box, process_of(direction, eta), 0),
            key=0,
            num_exits=num_exits,
            max_steps=int(min(40 * theory, 2**31 - 1)),
        )
        low, high = mean_interval(float(exits.times.sum()), exits.num_exits)
        points.append(
            ExitTime(
                field=0,
                learning_rate=eta,
                mean=exits.mean,
                lower=low,
                upper=high,
                theory=theory,
                epsilon=float(line.criterion(eta)[0]),
                exits=exits.num_exits,
            )
        )
        rows.append(
            {
                "dimension": dimension,
                "jumps": counted,
                "noise": direction,
                "learning_rate": eta,
                "exits": exits.num_exits,
                "censored": int(exits.is_censored.sum()),
                "mean_steps": f"{exits.mean:.4g}",
                "lower": f"{low:.4g}",
                "upper": f"{high:.4g}",
                "theory": f"{theory:.4g}" if direction == "elementwise" else "",
            }
        )
        print(rows[-1], flush=True)
    slope, error = slope_of(points)
    expected = -ALPHA - (counted - 1) * (ALPHA - 1.0)
    print(f"slope {slope:.3f} (standard error {error:.3f}), expected {expected}")
    return [
        {
            **row,
            "slope": f"{slope:.3f}",
            "slope_error": f"{error:.3f}",
            "slope_expected": expected,
        }
        for row in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--exits", type=int, default=100)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    etas = {1: [1.6e-2, 4e-3, 1e-3], 2: [1.6e-2, 8e-3, 4e-3]}
    rows = []
    for jumps in (1, 2):
        for dimension in arguments.dimensions:
            rows += measure(
                dimension, jumps, "elementwise", etas[jumps], arguments.exits
            )
    isotropic = math.ceil(arguments.exits / 2)
    rows += measure(2, 1, "isotropic", etas[1][:2], isotropic)
    rows += measure(2, 2, "isotropic", [3.2e-2, 1.6e-2], isotropic)
    result_file.write(arguments.out, rows, rounds=1)
    assert np.all([int(row["censored"]) == 0 for row in rows])


if __name__ == "__main__":
    main()
