#!/usr/bin/env bash
# SciPy 1.17.1: levy_stable.sf(1000, 1.5, 0) is exactly 0.0, where 6.308e-06 is right.
#
# One would expect the survival function of a heavy-tailed law to follow its power law
# far out, since that is what the law is used for; the density of the same object does.
# At x = 100 `sf` is right to all digits, at 1,000 and beyond it is 0.0, without a warning
# or an error. Seen: "100 1.998e-04", "1000 0.000e+00", "10000 0.000e+00", and the
# density over its asymptotic form at 10000: "1.0000".
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet scipy==1.17.1
"$scratch/venv/bin/python" - <<'PYTHON' | tee "$scratch/seen"
import math

from scipy.stats import levy_stable

alpha = 1.5
constant = math.gamma(alpha) * math.sin(math.pi * alpha / 2) / math.pi
for x in (100, 1000, 10000):
    print(x, f"{levy_stable.sf(x, alpha, 0):.3e}", f"{constant * x**-alpha:.3e}")
density = alpha * constant * 10000.0 ** (-alpha - 1)
print("density", f"{levy_stable.pdf(10000, alpha, 0) / density:.4f}")
PYTHON
diff "$scratch/seen" - <<'SEEN'
100 1.998e-04 1.995e-04
1000 0.000e+00 6.308e-06
10000 0.000e+00 1.995e-07
density 1.0000
SEEN
echo "As stated."
