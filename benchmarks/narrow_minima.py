r"""Share of time in the narrow fields against h: falling like h if truncated, else not.

On the landscape of four minima, at one learning rate, small enough that gradient descent
is stable at every minimum, h = H(1/eta)/eta goes over a decade and a half by the scale of
the noise. Theory: to first order the share of time in the two narrow fields is
proportional to h under truncation, and a constant without it. Errors are from the
differences between chains. Chains start in the stationary law of the theory's limit, and
have time to enter and leave narrow fields several times before anything is counted.
The column `estimator` has the rates of `rare_exit_rate` at this very h in place of those
of the limit.

Controls: gradient descent without noise, from around all minima alike, at that learning
rate, and at 0.05, so far above `2 / f''` that it leaves narrow fields by itself.

    python benchmarks/narrow_minima.py --out benchmarks/results/narrow_minima.csv
"""

import argparse
import math

import numpy as np
import result_file

import heavytail_optax as hto
from heavytail_optax.laboratory.jump_chain import finite_rates

ETA, ALPHA, MAX_NORM = 1e-3, 1.2, 0.5
STABLE_AND_NOT = (ETA, 0.05)
LANDSCAPE = hto.dynamics.four_minima()
NARROW = [0, 2]
TAIL = hto.tails.symmetric_pareto(ALPHA)


def scale_of(h: float) -> float:
    """The scale c with c^alpha eta^(alpha - 1) = h."""
    return (h * ETA ** (1.0 - ALPHA)) ** (1.0 / ALPHA)


def measure(
    h: float, max_norm: float, num_chains: int, chain_steps: float, num_samples: int
) -> dict:
    """The share of time in narrow fields at one h."""
    scale = scale_of(h)
    rates = hto.dynamics.exit_rates(
        LANDSCAPE, tail=TAIL, scale=scale, max_norm=max_norm
    )
    chain = hto.dynamics.markov_chain(rates)
    theory = chain.occupation(ETA)
    estimated = math.nan
    if math.isfinite(max_norm):
        finite = finite_rates(rates, ETA, seed=0, num_samples=num_samples)
        occupation = hto.dynamics.markov_chain(finite).occupation(ETA)
        estimated = float(occupation[NARROW].sum())
    start = np.asarray(LANDSCAPE.minima)[
        np.asarray(chain.wide)[
            np.searchsorted(
                np.cumsum(chain.stationary),
                (np.arange(num_chains) + 0.5) / num_chains,
            )
        ]
    ]
    num_steps = math.ceil(chain_steps / num_chains)
    # Narrow fields are left at a rate above 3 eta h, and all of them without truncation.
    burn_in = math.ceil(2.0 / (ETA * h))
    result = hto.dynamics.simulate(
        LANDSCAPE,
        hto.dynamics.sgd_process(ETA, max_norm, TAIL, scale),
        key=0,
        start=start,
        num_steps=num_steps,
        num_chains=num_chains,
        burn_in=burn_in,
    )
    narrow = result.field_counts[:, NARROW].sum(axis=1)
    share, error = hto.dynamics.occupation(narrow, result.num_records)
    return {
        "noise": "heavy tails",
        "truncated_at": max_norm,
        "h": f"{h:.4g}",
        "learning_rate": ETA,
        "scale": f"{scale:.4g}",
        "chains": num_chains,
        "steps": num_steps,
        "burn_in": burn_in,
        "narrow_share": f"{float(share):.3g}",
        "standard_error": f"{float(error):.2g}",
        "theory": f"{float(theory[NARROW].sum()):.3g}",
        "estimator": f"{estimated:.3g}" if math.isfinite(estimated) else "",
        "visits_to_narrow": int(result.visits[NARROW].sum()),
    }


def gradient_descent(eta: float, num_chains: int) -> dict:
    """The same without noise, from around all minima alike."""
    num_steps, burn_in = 20_000, 20_000
    offsets = np.repeat(np.linspace(-0.02, 0.02, num_chains // 4), 4)
    result = hto.dynamics.simulate(
        LANDSCAPE,
        hto.dynamics.sgd_process(eta, math.inf, TAIL, 0.0),
        key=0,
        start=np.resize(np.asarray(LANDSCAPE.minima), offsets.size) + offsets,
        num_steps=num_steps,
        num_chains=offsets.size,
        burn_in=burn_in,
    )
    narrow = result.field_counts[:, NARROW].sum()
    return {
        "noise": "none",
        "truncated_at": math.inf,
        "h": "",
        "learning_rate": eta,
        "scale": 0,
        "chains": num_chains,
        "steps": num_steps,
        "burn_in": burn_in,
        "narrow_share": f"{narrow / result.num_chain_steps:.3g}",
        "standard_error": "",
        "theory": "",
        "estimator": "",
        "visits_to_narrow": int(result.visits[NARROW].sum()),
        "exponent": "",
        "exponent_error": "",
    }


def exponent(rows: list[dict]) -> tuple[float, float]:
    """The slope of log share against log h, and its standard error."""
    x = np.log([float(row["h"]) for row in rows])
    share = np.asarray([float(row["narrow_share"]) for row in rows])
    weights = (share / [float(row["standard_error"]) for row in rows]) ** 2
    centred = x - np.average(x, weights=weights)
    spread = np.sum(weights * centred**2)
    return float(np.sum(weights * centred * np.log(share)) / spread), spread**-0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--h", type=float, nargs="+", default=[0.1, 0.0316, 0.01, 0.00316]
    )
    parser.add_argument("--chains", type=int, default=512)
    parser.add_argument("--chain-steps", type=float, default=1e9)
    parser.add_argument("--samples", type=int, default=20_000, help="of the estimator")
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for max_norm in (MAX_NORM, math.inf):
        own = []
        for h in arguments.h:
            row = measure(
                h,
                max_norm,
                arguments.chains,
                arguments.chain_steps,
                arguments.samples,
            )
            print(row, flush=True)
            own.append(row)
        slope, error = exponent(own)
        print(f"b = {max_norm}: share ~ h^{slope:.3f} (standard error {error:.3f})")
        rows += [
            {**row, "exponent": f"{slope:.3f}", "exponent_error": f"{error:.3f}"}
            for row in own
        ]
    for eta in STABLE_AND_NOT:
        rows.append(gradient_descent(eta, arguments.chains))
        print(rows[-1], flush=True)
    result_file.write(arguments.out, rows, rounds=1)


if __name__ == "__main__":
    main()
