#!/usr/bin/env bash
# JAX 0.10.2: of draws from the Wald law with mean 10,000, one in six is zero or negative.
#
# The Wald (inverse Gaussian) law is that of the first time at which a Brownian path with drift
# reaches a level. It is positive, and for a large mean it is Lévy's law of index 1/2, cut far
# out: exit times have such tails. One would expect draws of it to be positive.
# `jax.random.wald` takes the smaller root of a quadratic as a difference of numbers of the
# order of the mean squared, so that in float32, the default, nothing is left of it: one draw in
# 270 is not positive for the mean 1,000, one in six for 10,000, 44 % for 1,000,000. There the
# lowest is -501,408, and half of the draws exceed 307, where 2.2 is right. No NaN, no warning.
# (Right medians: SciPy's `invgauss`, in float64. NumPy mended the same formula in 2025.)
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 scipy==1.17.1 numpy==2.4.6
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" - <<'PYTHON' | tee "$scratch/seen"
import jax
import numpy
from scipy.stats import invgauss

for mean in (1e2, 1e3, 1e4, 1e6):
    draws = numpy.asarray(jax.random.wald(jax.random.key(1), mean, (100_000,)), float)
    share = 100.0 * (draws <= 0.0).mean()
    print(f"{mean:.0e} {share:.1f} % {numpy.median(draws):.1f} {invgauss(mean).median():.1f}")
PYTHON
diff "$scratch/seen" - <<'SEEN'
1e+02 0.0 % 2.1 2.1
1e+03 0.4 % 2.2 2.2
1e+04 16.7 % 3.6 2.2
1e+06 44.1 % 307.8 2.2
SEEN
echo "As stated."
