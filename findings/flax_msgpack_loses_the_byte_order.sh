#!/usr/bin/env bash
# Flax 0.12.8: an array of big-endian floats comes back from `to_bytes` and `from_bytes` as
# other numbers: 1.0 as 4.6e-41.
#
# The IDX files of MNIST and its relatives, like netCDF and FITS, store numbers of more than one
# byte with the high byte first, and NumPy reads them into arrays of such a type, with which it
# computes rightly. One would expect a format of checkpoints that stores the type of an array to
# store its byte order, to swap, or to refuse (JAX refuses such arrays). Flax stores the name
# "float32", which leaves the order out, and the bytes as they are. Statistics of the data,
# kept next to the parameters, come back as numbers near 0, finite, without an error.
# Fails if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" - <<'PYTHON' | tee "$scratch/seen"
import numpy
from flax import serialization

for order in ("<f4", ">f4", ">i4"):
    state = {"mean": numpy.array([1, 2, 3], order)}
    back = serialization.from_bytes(state, serialization.to_bytes(state))["mean"]
    print(order, back.dtype, " ".join(f"{number:.2g}" for number in back.astype(float)))
PYTHON
diff "$scratch/seen" - <<'SEEN'
<f4 float32 1 2 3
>f4 float32 4.6e-41 9e-44 2.3e-41
>i4 int32 1.7e+07 3.4e+07 5e+07
SEEN
echo "As stated."
