#!/usr/bin/env bash
# TensorFlow Probability's GeneralizedPareto in JAX (tfp-nightly 0.26.0.dev20261027, which
# distrax 0.1.9 installs): the derivative by the concentration is 0 at concentration 0.
#
# There the law is exponential, the usual start of a search for a tail's shape. At x = 5
# and scale 1 the derivative of the log-density is x^2/2 - x = 7.5, and 7.5 is what the
# package gives at 1e-4 on either side. At 0 it is 0, with no warning: gradient ascent
# from 0 on 10,000 draws of shape 0.7 does not move, and from 1e-4 it finds 0.71.
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet tfp-nightly==0.26.0.dev20261027 \
  jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" -W ignore - <<'PYTHON' | tee "$scratch/seen"
import jax
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp


def log_prob(concentration, x):
    pareto = tfp.distributions.GeneralizedPareto(0.0, 1.0, concentration)
    return jnp.mean(pareto.log_prob(x))


for concentration in (-1e-4, 0.0, 1e-4):
    slope = jax.grad(log_prob)(concentration, jnp.float32(5.0))
    print(f"derivative at {concentration:g}: {slope:.1f}")

uniform = jax.random.uniform(jax.random.key(0), (10_000,))
draws = ((1.0 - uniform) ** -0.7 - 1.0) / 0.7
slope = jax.jit(jax.grad(log_prob))
for start in (0.0, 1e-4):
    concentration = start
    for _ in range(500):
        concentration += 0.02 * jnp.clip(slope(concentration, draws), -1, 1)
    print(f"ascent from {start:g} ends at {concentration:.2f}")
PYTHON
diff "$scratch/seen" - <<'SEEN'
derivative at -0.0001: 7.5
derivative at 0: 0.0
derivative at 0.0001: 7.5
ascent from 0 ends at 0.00
ascent from 0.0001 ends at 0.71
SEEN
echo "As stated."
