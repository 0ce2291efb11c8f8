#!/usr/bin/env bash
# JAX 0.10.2: `jax.random.normal` in bfloat16 has mean -0.012 and lies within -2.89 and 2.52.
#
# One would expect coarse draws of 8 bits, but draws that are symmetric, with mean 0. There are
# 128 values, all equally likely: the quantiles of points evenly spaced from -0.996 to 0.988,
# which are not symmetric about 0. So the lowest is -2.89, the highest 2.52, and the
# mean, exact from the values, is -0.012 of the standard deviation. `optax.add_noise` draws
# in the type of the gradients: over 10,000 steps such noise adds up to a drift of 120, while
# its random part comes to 100. In float16 the mean is -0.0018. Draws made in float32 and
# cast have neither fault. On CPU. No warning.
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 optax==0.2.8
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" - <<'PYTHON' | tee "$scratch/seen"
import jax
import jax.numpy as jnp
import numpy
import optax


def show(name, draws):
    values, counts = numpy.unique(numpy.asarray(draws, float), return_counts=True)
    is_even = counts.max() < 1.3 * counts.min()
    print(name, values.size, is_even, f"{values.mean():.4f} {values.min():.2f} {values.max():.2f}")


zeros = jnp.zeros(200_000, jnp.bfloat16)
noise = optax.add_noise(1.0, 0.0, key=0)
show("normal", jax.random.normal(jax.random.key(0), zeros.shape, zeros.dtype))
show("add_noise", noise.update(zeros, noise.init(zeros))[0])
PYTHON
diff "$scratch/seen" - <<'SEEN'
normal 128 True -0.0120 -2.89 2.52
add_noise 128 True -0.0120 -2.89 2.52
SEEN
echo "As stated."
