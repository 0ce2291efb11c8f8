#!/usr/bin/env bash
# JAX 0.10.2: cauchy.ppf(2**-30) is +2.3e+07, where -3.4e+08 is right.
#
# One would expect a quantile far below the median to be negative, if perhaps inexact. In
# float32, the default, `jax.scipy.stats.cauchy.ppf` is right to 3 % at 2**-20. From about
# 1e-08 down it is a large *positive* number, the same for all: the angle whose tangent is
# taken is rounded to the other side of the pole. `isf` changes sides in the same way, though
# it is there for small probabilities, which float32 holds exactly down to 1e-38. No warning.
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" - <<'PYTHON' | tee "$scratch/seen"
import math

from jax.scipy.stats import cauchy

for exponent in (10, 20, 30, 100):
    share = 2.0**-exponent
    right = -1.0 / math.tan(math.pi * share)
    lower, upper = float(cauchy.ppf(share)), float(cauchy.isf(share))
    print(exponent, f"{right:.1e} {lower:.1e} {upper:.1e}")
PYTHON
diff "$scratch/seen" - <<'SEEN'
10 -3.3e+02 -3.3e+02 3.3e+02
20 -3.3e+05 -3.4e+05 3.4e+05
30 -3.4e+08 2.3e+07 -2.3e+07
100 -4.0e+29 2.3e+07 -2.3e+07
SEEN
echo "As stated."
