#!/usr/bin/env bash
# JAX 0.10.2: of draws from Student's t with 3 degrees of freedom, ten million degrees are
# by far the likeliest: the log likelihood is -410, where -3,787 is right.
#
# One would expect Student's t to come near the normal law as its degrees of freedom grow.
# In float32, the default, `jax.scipy.stats.t.logpdf` adds the logarithm of a scale to one
# log gamma and takes off another. Both are of the order of 1e+08 for 1e+07 degrees, so all of
# the constant is lost to rounding, the scale included: the density integrates to 2.5 with the
# scale 1, and to 6.3 with 2.5. Whoever fits the degrees of freedom finds them without bound,
# that is: no heavy tail. With 1e+05 degrees the density is 2 % off. NumPyro 0.22.0 has the
# same log density. No warning, no error; all values are finite.
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpyro==0.22.0 \
  scipy==1.17.1 numpy==2.4.6
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" - <<'PYTHON' | tee "$scratch/seen"
import numpy
import scipy.stats
from jax.scipy.stats import t
from numpyro.distributions import StudentT

draws = scipy.stats.t.rvs(3.0, size=2000, random_state=0).astype(numpy.float32)
grid = numpy.linspace(-60.0, 60.0, 60_001)
for freedom in (3.0, 10.0, 1e3, 1e5, 1e7):
    # The likelihood of the best of four scales, and the integral of the density.
    scales = (1.0, 1.25, 1.5, 2.5)
    right = max(scipy.stats.t.logpdf(draws, freedom, scale=s).sum() for s in scales)
    seen = max(float(t.logpdf(draws, freedom, 0.0, s).sum()) for s in scales)
    density = numpy.asarray(t.pdf(grid.astype(numpy.float32), freedom), float)
    mass = numpy.trapezoid(density, grid)
    print(f"{freedom:.0e} {right:.0f} {seen:.0f} {mass:.2f}")
wide = numpy.asarray(t.pdf(grid.astype(numpy.float32), 1e7, 0.0, 2.5), float)
print(f"scale 2.5: {numpy.trapezoid(wide, grid):.1f}")
right, seen = scipy.stats.t.logpdf(0.0, 1e7), float(StudentT(1e7).log_prob(0.0))
print(f"NumPyro at 0: {right:.1f} {abs(seen):.1f}")
PYTHON
diff "$scratch/seen" - <<'SEEN'
3e+00 -3542 -3542 1.00
1e+01 -3597 -3597 1.00
1e+03 -3778 -3778 1.00
1e+05 -3786 -3763 0.98
1e+07 -3787 -410 2.51
scale 2.5: 6.3
NumPyro at 0: -0.9 0.0
SEEN
echo "As stated."
