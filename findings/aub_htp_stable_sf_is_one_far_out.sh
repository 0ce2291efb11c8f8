#!/usr/bin/env bash
# aub-htp 1.1.1: alpha_stable.sf(1000, 1.5, 0) is 0.9999, where 6.308e-06 is right.
#
# The package is made for heavy-tailed laws. Its survival function of a symmetric stable
# law falls to 1.4e-04 at x = 100 (2.0e-04 is right) and then *rises*: to 0.9999 at 1,000
# and to 1.0000 at 10,000. It is computed by integrating a density that is itself right
# far out. No error; the result lies within [0, 1].
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet aub-htp==1.1.1 scipy==1.17.1 numpy==2.4.6
"$scratch/venv/bin/python" -W ignore - <<'PYTHON' | tee "$scratch/seen"
from aub_htp import alpha_stable

for x in (1.0, 100.0, 1000.0, 10000.0):
    print(f"{x:.0f} {float(alpha_stable.sf(x, 1.5, 0.0)):.4f}")
PYTHON
diff "$scratch/seen" - <<'SEEN'
1 0.2436
100 0.0001
1000 0.9999
10000 1.0000
SEEN
echo "As stated."
