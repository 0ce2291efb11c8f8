#!/usr/bin/env bash
# JAX 0.10.2: random numbers from a Philox key do not compile for two devices.
#
# `jax.random.key(seed, impl=...)` accepts `philox2x32` and `philox4x32`. They are
# counter-based, as `threefry2x32` is, so that nothing needs to be communicated. On one
# device `jax.random.normal` and `split` work. Compiled for a mesh of two devices, with the
# result sharded or replicated, they end in "INTERNAL: Unable to convert MHLO to
# StableHLO": the high word of a product (`jax.lax.mulhi`) has no form for more than one
# device. The key of any other implementation works there. (JAX 0.12.0.1 does the same.)
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=2 \
  "$scratch/venv/bin/python" - 2>/dev/null <<'PYTHON' | tee "$scratch/seen"
import jax

mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))


def outcome(function, key, **shardings):
    try:
        jax.block_until_ready(jax.jit(function, **shardings)(key))
    except jax.errors.JaxRuntimeError as error:
        return str(error).splitlines()[0][:46]
    return "works"


def on_two(*spec):
    return {"out_shardings": jax.sharding.NamedSharding(mesh, jax.P(*spec))}


for implementation in ("threefry2x32", "philox2x32", "philox4x32"):
    key = jax.random.key(0, impl=implementation)
    normal = lambda key: jax.random.normal(key, (8,))
    print(implementation, "one device:", outcome(normal, key))
    print(implementation, "two devices:", outcome(normal, key, **on_two("x")))
    print(implementation, "split, two:", outcome(jax.random.split, key, **on_two()))
PYTHON
diff "$scratch/seen" - <<'SEEN'
threefry2x32 one device: works
threefry2x32 two devices: works
threefry2x32 split, two: works
philox2x32 one device: works
philox2x32 two devices: INTERNAL: Unable to convert MHLO to StableHLO
philox2x32 split, two: INTERNAL: Unable to convert MHLO to StableHLO
philox4x32 one device: works
philox4x32 two devices: INTERNAL: Unable to convert MHLO to StableHLO
philox4x32 split, two: INTERNAL: Unable to convert MHLO to StableHLO
SEEN
echo "As stated."
