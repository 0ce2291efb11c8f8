#!/usr/bin/env bash
# matfree 0.6.3: Lanczos with full reorthogonalisation gives Ritz values of -29 and 33 for a
# matrix whose eigenvalues are 1 and 2.
#
# Ritz values of a symmetric matrix lie within its spectrum; full reorthogonalisation is
# there to keep that so in floating point. A matrix with few distinct eigenvalues exhausts
# the Krylov space after as many steps. `decomp.tridiag_sym` goes on dividing by a
# remainder that is rounding error: with 20 steps, on two distinct eigenvalues in 50
# dimensions, the extreme Ritz values are far outside, finite, without a warning; with 10
# steps they are still right. (Hessians of overparametrised networks are such matrices.)
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet matfree==0.6.3 jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" - <<'PYTHON' | tee "$scratch/seen"
import jax
import jax.numpy as jnp
from matfree import decomp, eig

diagonal = jnp.where(jnp.arange(50) < 25, 1.0, 2.0)
start = jax.random.normal(jax.random.key(0), (50,))
for steps in (2, 10, 20):
    eigenvalues = eig.eigh_partial(decomp.tridiag_sym(steps, reortho="full"))
    values = eigenvalues(lambda vector: diagonal * vector, start)[0]
    is_within = bool((values.min() > 0.9) & (values.max() < 2.1))
    print(steps, "finite" if bool(jnp.isfinite(values).all()) else "not finite", is_within)
PYTHON
diff "$scratch/seen" - <<'SEEN'
2 finite True
10 finite True
20 finite False
SEEN
echo "As stated."
