#!/usr/bin/env bash
# SciPy 1.17.1: the mean of the absolute value of a Cauchy variable is 226.4, and the variance
# of that of Student's t with 2 degrees of freedom 493.8, where both are infinite.
#
# `scipy.stats.make_distribution` gives a variable whose own moments are right: infinite or NaN
# where they do not exist. One would expect that of `scipy.stats.abs` of it, or a warning that
# an integral did not converge, as `quad` and the older `expect` give. The quadrature goes as
# far as the density exceeds 0 in float64, to about 1e+154 for Cauchy's, and leaves out what
# lies beyond, without a warning. With 1.5 degrees the variance is 1.1e+65, which one would
# notice; 226.4 one would take for the mean size of a heavy-tailed gradient. Where the moments
# exist, they are right: with 2.1 degrees, 19.16. (Reference: df / (df - 2) less the mean
# squared, infinite for df <= 2.) `truncate(X, lb=0)` gives 226.4 as well.
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet scipy==1.17.1 numpy==2.4.6
"$scratch/venv/bin/python" -W error - <<'PYTHON' | tee "$scratch/seen"
from scipy import stats

cauchy = stats.make_distribution(stats.cauchy)()
print(f"{cauchy.mean():.1f} {stats.abs(cauchy).mean():.1f}", end=" ")
print(f"{stats.truncate(cauchy, lb=0.0).mean():.1f}")
student = stats.make_distribution(stats.t)
for freedom in (1.5, 2.0, 2.1):
    law = student(df=freedom)
    print(f"{freedom} {law.variance():.4g} {stats.abs(law).variance():.4g}")
PYTHON
diff "$scratch/seen" - <<'SEEN'
nan 226.4 226.4
1.5 inf 1.065e+65
2.0 inf 493.8
2.1 21 19.16
SEEN
echo "As stated."
