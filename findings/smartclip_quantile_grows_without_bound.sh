#!/usr/bin/env bash
# smartclip 0.1.1: the 95th percentile of uniform numbers below 1 is 10,006 after 20,000 of
# them, so nothing is clipped any more.
#
# `AutoClip(mode="percentile")` with its default history is to follow the 95th percentile of
# the gradient norms seen so far. One would expect an estimate of a percentile to stay within
# the range of the data. It moves up whether a norm lies above or below it, and grows
# exponentially: 0.95 after ten norms, 1.2 after 1,000, 68 after 10,000. No warning. The other
# history, `history="window"`, is right.
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet smartclip==0.1.1
"$scratch/venv/bin/python" - <<'PYTHON' | tee "$scratch/seen"
import random

import smartclip

norms = random.Random(0)
average = smartclip.AutoClip(mode="percentile", percentile=95.0)
window = smartclip.AutoClip(mode="percentile", percentile=95.0, history="window")
for count in range(1, 20_001):
    norm = norms.random()
    average.observe(norm)
    window.observe(norm)
    if count in (1_000, 10_000, 20_000):
        in_range = average.threshold() < 1.0
        print(count, in_range, f"{window.threshold():.1f}")
print(average.threshold() > 1_000.0)
PYTHON
diff "$scratch/seen" - <<'SEEN'
1000 False 0.9
10000 False 0.9
20000 False 0.9
True
SEEN
echo "As stated."
