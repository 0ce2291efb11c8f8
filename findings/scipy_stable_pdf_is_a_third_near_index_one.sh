#!/usr/bin/env bash
# SciPy 1.17.1: levy_stable.pdf(4000, 0.95, 0) is 1.02e-08, where 2.94e-08 is right.
#
# One would expect the density of a symmetric stable law to follow its power law far out, as
# it does for other indices. For indices of 0.9 to 0.995 it is right to all digits up to some
# x, and then at once 0.32 to 0.37 of the right value, for good: from about 11,900 on for the
# index 0.9, from 3,000 on for 0.95, from 320 on for 0.99. No warning, no error.
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet scipy==1.17.1 numpy==2.4.6
"$scratch/venv/bin/python" - <<'PYTHON' | tee "$scratch/seen"
import math

from scipy.stats import levy_stable


def right(x, alpha):
    """The series in x^-alpha, which converges for alpha < 1 (Feller II, XVII.6)."""
    return sum(
        (-1) ** (k + 1)
        * math.exp(math.lgamma(alpha * k + 1) - math.lgamma(k + 1))
        * math.sin(math.pi * alpha * k / 2)
        * x ** (-alpha * k - 1)
        for k in range(1, 60)
    ) / math.pi


for alpha, places in ((0.9, (1e4, 2e4)), (0.95, (2e3, 4e3)), (0.99, (2e2, 4e2))):
    for x in places:
        ratio = levy_stable.pdf(x, alpha, 0.0) / right(x, alpha)
        print(alpha, int(x), f"{right(x, alpha):.2e}", f"{ratio:.2f}")
PYTHON
diff "$scratch/seen" - <<'SEEN'
0.9 10000 7.59e-09 1.00
0.9 20000 2.04e-09 0.32
0.95 2000 1.14e-07 1.00
0.95 4000 2.94e-08 0.35
0.99 200 8.35e-06 1.00
0.99 400 2.10e-06 0.36
SEEN
echo "As stated."
