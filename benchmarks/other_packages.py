"""Numbers that other packages give, beside ours and the right ones.

Each row is one statement of docs/comparison.md: a call on valid input, what it returns,
what ours returns, and what is right, by a closed form or by mpmath.

    pip install -e ".[bench]"
    python benchmarks/other_packages.py --out benchmarks/results/other_packages.csv
"""

import argparse
import importlib.metadata
import math
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import result_file

import heavytail_optax as hto


class Row(NamedTuple):
    """One number, three times."""

    package: str
    version: str
    what: str
    theirs: float
    ours: float
    right: float


def _row(package: str, what: str, theirs: float, ours: float, right: float) -> Row:
    version = importlib.metadata.version(package)
    return Row(package, version, what, float(theirs), float(ours), float(right))


def indices() -> Iterator[Row]:
    """The tail index of Pareto draws, at a given threshold."""
    import powerlaw

    for index in (0.8, 1.5, 2.5, 4.0):
        uniforms = np.random.default_rng(0).random(10_000)
        draws = (1.0 - uniforms) ** (-1.0 / index)
        fit = powerlaw.Fit(draws, xmin=1.0, verbose=False)
        # The smallest draw is our threshold, the threshold 1 theirs.
        ours = hto.tail_index.hill(draws, draws.size - 1).estimate
        yield _row(
            "powerlaw",
            f"tail index ({index}): alpha - 1 of the default fit",
            fit.power_law.alpha - 1.0,
            ours,
            index,
        )
        ranges = {"alpha": [1, 10]}
        wider = powerlaw.Fit(draws, xmin=1.0, verbose=False, parameter_ranges=ranges)
        yield _row(
            "powerlaw",
            f"tail index ({index}): alpha - 1 within [1, 10]",
            wider.power_law.alpha - 1.0,
            ours,
            index,
        )


def ritz_values() -> Iterator[Row]:
    """The largest eigenvalue of a matrix that has only the eigenvalues 1 and 2."""
    from matfree import decomp, eig

    diagonal = jnp.where(jnp.arange(50) < 25, 1.0, 2.0)
    start = jax.random.normal(jax.random.key(0), (50,))
    decompose = decomp.tridiag_sym(20, reortho="full")
    values = eig.eigh_partial(decompose)(lambda vector: diagonal * vector, start)[0]

    def loss(params: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(diagonal * params**2)

    for which, found, right in (
        ("smallest", jnp.min(values), 1.0),
        ("largest", jnp.max(values), 2.0),
    ):
        ours = hto.flatness.hessian_eigenvalues(
            loss,
            jnp.ones(50),
            key=jax.random.key(0),
            num_eigenvalues=1,
            num_matvecs=20,
            which=which,
        )
        yield _row(
            "matfree",
            f"{which} of 20 Ritz values, full reorthogonalisation",
            found,
            ours.values[0],
            right,
        )


def eigenvalues() -> Iterator[Row]:
    """The five largest eigenvalues of a matrix with 3, 2 and 48 times 1, in float32."""
    import hessian_eigenthings
    import torch

    diagonal = [3.0, 2.0] + [1.0] * 48

    class Quadratic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.params = torch.nn.Parameter(torch.ones(50))

    def torch_loss(model, batch):
        del batch
        return 0.5 * (torch.tensor(diagonal) * model.params**2).sum()

    def loss(params: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(jnp.asarray(diagonal) * params**2)

    data = [(torch.zeros(1), torch.zeros(1))]
    operator = hessian_eigenthings.HessianOperator(Quadratic(), data, torch_loss)
    found = hessian_eigenthings.lanczos(operator, k=5, seed=0).eigenvalues
    ours = hto.flatness.hessian_eigenvalues(
        loss, jnp.ones(50), key=jax.random.key(0), num_eigenvalues=2, num_matvecs=10
    ).values
    for place, right in ((0, 3.0), (1, 2.0)):
        what = f"largest eigenvalue number {place + 1}, by `lanczos(k=5)`"
        yield _row("hessian-eigenthings", what, found[place], ours[place], right)


def stable_left_tails() -> Iterator[Row]:
    """P(X < -x) and P(X > x) of the symmetric stable law of index 0.6, which are equal."""
    import levy

    for x in (10.0, 100.0, 200.0):
        # The series in x^-alpha converges for alpha < 1 (Feller II, XVII.6).
        right = sum(
            (-1) ** (k + 1)
            * math.gamma(0.6 * k)
            / math.factorial(k)
            * math.sin(math.pi * 0.3 * k)
            * x ** (-0.6 * k)
            for k in range(1, 60)
        )
        right /= math.pi
        ours = hto.tails.alpha_stable(0.6).tail_probability(x) / 2
        left = levy.cdf(-x, alpha=0.6, beta=0.0)
        above = 1.0 - levy.cdf(x, alpha=0.6, beta=0.0)
        law = "stable of index 0.6"
        yield _row("levy-stable", f"P(X < -{x:g}), {law}", left, ours, right)
        yield _row("levy-stable", f"P(X > {x:g}), {law}", above, ours, right)


def stable_tails() -> Iterator[Row]:
    """P(X > x) of the symmetric stable law of index 1.5."""
    import mpmath
    import scipy.stats
    from aub_htp import alpha_stable

    for x in (1.0, 10.0, 100.0, 1e3, 1e4):
        with mpmath.workdps(40):
            right = _stable_tail(mpmath.mpf(3) / 2, mpmath.mpf(x))
        ours = hto.tails.alpha_stable(1.5).tail_probability(x) / 2
        what = f"P(X > {x:g}), stable of index 1.5"
        yield _row("scipy", what, scipy.stats.levy_stable.sf(x, 1.5, 0.0), ours, right)
        yield _row("aub-htp", what, alpha_stable.sf(x, 1.5, 0.0), ours, right)


def _stable_tail(alpha, x):
    """P(X > x) by inverting the characteristic function exp(-|t|^alpha)."""
    import mpmath as mp

    integral = mp.quadosc(
        lambda t: mp.sin(t * x) / t * mp.exp(-(t**alpha)), [0, mp.inf], omega=x
    )
    return mp.mpf(1) / 2 - integral / mp.pi


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [*indices(), *ritz_values(), *eigenvalues()]
    rows += [*stable_tails(), *stable_left_tails()]
    for row in rows:
        print(
            f"{row.package:19} {row.version:7} {row.what}: {row.theirs:.6g}, ", end=""
        )
        print(f"ours {row.ours:.6g}, right {row.right:.6g}")
    result_file.write(arguments.out, [row._asdict() for row in rows], rounds=1)


if __name__ == "__main__":
    main()
