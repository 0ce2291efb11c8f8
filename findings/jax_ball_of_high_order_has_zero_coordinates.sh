#!/usr/bin/env bash
# JAX 0.10.2: of the coordinates of draws from the unit ball of the norm of order 100, 42 % are
# exactly 0. For the order infinity all draws are corners of the cube.
#
# `jax.random.ball(key, d, p)` draws evenly from the unit ball of a norm. For a high order that
# ball is nearly the cube, so one would expect coordinates nearly uniform on [-1, 1], half of
# them below 1/2 in size and none 0. Each comes from a gamma variable of shape 1/p; in float32,
# the default, it underflows to 0 with probability exp(-87.3 / p), and the power 1/p leaves 0.
# For p = 200 no coordinate but these zeros is below 1/2 in size. The draws of
# `jax.random.generalized_normal` have the same zeros. At p = infinity the shape is 0 and
# every coordinate is 1 or -1. Sharpness over such a ball is then that of a few directions,
# or of the corners alone. No NaN, no warning.
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" - <<'PYTHON' | tee "$scratch/seen"
import math

import jax

for order in (2.0, 20.0, 50.0, 100.0, 200.0, math.inf):
    size = abs(jax.random.ball(jax.random.key(3), 3, order, (20_000,)))
    zero, inside = float((size == 0.0).mean()), float(((size > 0.0) & (size < 0.5)).mean())
    print(f"{order:.0f} {zero:.2f} {inside:.2f} {float((size == 1.0).mean()):.2f}")
PYTHON
diff "$scratch/seen" - <<'SEEN'
2 0.00 0.69 0.00
20 0.01 0.49 0.00
50 0.18 0.32 0.00
100 0.42 0.08 0.00
200 0.65 0.00 0.00
inf 0.00 0.00 1.00
SEEN
echo "As stated."
