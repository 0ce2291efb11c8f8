"""Convolutions with stride one, and products in bfloat16, as is quick on each backend.

Images are (channels, height, width, n) and kernels (rows, columns, channels of the images,
channels of the result).

XLA's CPU backend runs native convolutions many times slower inside `lax.scan` than
outside of it (jax issue 12868). There, shifted slices of the images and one matrix
product are quicker. On a GPU or TPU the native convolution is, and XLA is free to hold
the axes in whichever order in memory serves it.

In bfloat16 both operands of a product are rounded (8 significant bits, the range of
float32). The products of two such numbers are exact in float32, where they are summed.
JAX's own gradient of such a product would be in bfloat16, so these functions have one of
theirs: both gradients are such products again, of the rounded cotangent.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

Padding = Literal["SAME", "VALID"]
Precision = Literal["float32", "bfloat16"]

_AXES = ("CHWN", "HWIO", "CHWN")


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    padding: Padding = "VALID",
    precision: Precision = "float32",
) -> jax.Array:
    """Convolution with stride one, in the way that is quick on JAX's default backend."""
    is_cpu = jax.default_backend() == "cpu"
    if precision == "bfloat16":
        in_bfloat16 = (
            convolve_by_slices_in_bfloat16 if is_cpu else convolve_natively_in_bfloat16
        )
        return in_bfloat16(images, kernel, padding)
    return (convolve_by_slices if is_cpu else convolve_natively)(
        images, kernel, padding
    )


def convolve_natively(
    images: jax.Array, kernel: jax.Array, padding: Padding = "VALID"
) -> jax.Array:
    """XLA's own operation."""
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), padding, dimension_numbers=_AXES
    )


def convolve_by_slices(
    images: jax.Array, kernel: jax.Array, padding: Padding = "VALID"
) -> jax.Array:
    """One matrix product with all shifted images."""
    rows, columns, _, channels_out = kernel.shape
    patches, (height, width) = patches_of(images, (rows, columns), padding)
    product = kernel.reshape(-1, channels_out).T @ patches
    return product.reshape(channels_out, height, width, -1)


def patches_of(
    images: jax.Array, size: tuple[int, int], padding: Padding
) -> tuple[jax.Array, tuple[int, int]]:
    """All shifted images as a matrix, and the height and width of each.

    Its rows are the shifts with the channels of each, its columns the places in all
    images.
    """
    rows, columns = size
    if padding == "SAME":
        images = _pad(_pad(images, 1, rows), 2, columns)
    height = images.shape[1] - rows + 1
    width = images.shape[2] - columns + 1
    shifted = [
        images[:, row : row + height, column : column + width, :]
        for row in range(rows)
        for column in range(columns)
    ]
    # Two axes, not four: XLA takes a product over four in twice the time.
    patches = jnp.concatenate(shifted).reshape(len(shifted) * images.shape[0], -1)
    return patches, (height, width)


def _pad(images: jax.Array, axis: int, size: int) -> jax.Array:
    """Zeros around an axis, as many as "SAME" puts there for a kernel of a size.

    With `jnp.pad`, XLA pads anew for each of the shifted slices. Zeros that it does not
    know to be zeros are put into memory once, which saves 6% of a step of VGG11.
    """
    edge = jax.lax.slice_in_dim(images, 0, 1, axis=axis)
    zeros = jnp.clip(jax.lax.stop_gradient(edge), 0, 0)
    before, after = (size - 1) // 2, size // 2
    return jnp.concatenate([zeros] * before + [images] + [zeros] * after, axis)


_LAST_BY_FIRST, _LAST_BY_LAST = ((1,), (0,)), ((1,), (1,))


def rounded(array: jax.Array) -> jax.Array:
    """The nearest numbers in bfloat16, even ones for ties."""
    return _from_bits(_rounded_bits(array))


def _rounded_bits(array: jax.Array) -> jax.Array:
    """The bits of the nearest numbers in bfloat16.

    XLA's CPU backend takes two to three times as long for `astype`. It also widens
    bfloat16 to float32 and back wherever it only moves numbers; integers it just moves.
    """
    bits = jax.lax.bitcast_convert_type(array, jnp.uint32)
    is_odd = (bits >> 16) & jnp.uint32(1)
    nearest = (bits + jnp.uint32(0x7FFF) + is_odd) >> 16
    # Of a NaN the digits that are kept may all be zero, which would be an infinity.
    nearest = jnp.where(jnp.isnan(array), jnp.uint32(0x7FC0), nearest)
    return nearest.astype(jnp.uint16)


def _from_bits(bits: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)


def _product(
    left: jax.Array, right: jax.Array, axes: Any = _LAST_BY_FIRST
) -> jax.Array:
    """Of two matrices in bfloat16, in float32.

    XLA's CPU backend takes such a product in half the time of one in float32, but only
    if the left operand is summed over its last axis. All others it computes in float32.
    """
    return jax.lax.dot_general(
        left, right, (axes, ((), ())), preferred_element_type=jnp.float32
    )


def _transposed(matrix: jax.Array) -> jax.Array:
    """With its axes exchanged in memory too."""
    # XLA would take the transposition into the product, where it sees one.
    return jax.lax.optimization_barrier(matrix.T)


def _on_each_device(array: jax.Array, other: jax.Array) -> jax.Array:
    """The array; in `jax.shard_map` a copy for each device that has its own `other`.

    There a gradient must be for each device just if its argument is. JAX adds up the
    gradients of the copies. It has no one way, in all its versions, to ask which devices
    those are, but a sum with the other array is for each of them.
    """
    is_positive = other[(0,) * other.ndim] > 0
    return array + (0 * is_positive).astype(array.dtype)


def multiply(left: jax.Array, right: jax.Array) -> jax.Array:
    """The product of two matrices in float32, computed in bfloat16."""
    return _multiply(left, _on_each_device(right, left))


@jax.custom_vjp
def _multiply(left: jax.Array, right: jax.Array) -> jax.Array:
    return _multiply_forwards(left, right)[0]


def _multiply_forwards(left: jax.Array, right: jax.Array) -> tuple[jax.Array, Any]:
    left, right = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
    return _product(left, right), (left, right)


def _multiply_backwards(operands: Any, cotangent: jax.Array) -> tuple:
    left, right = operands
    cotangent = cotangent.astype(jnp.bfloat16)
    of_left = _product(cotangent, right, _LAST_BY_LAST)
    return of_left, _product(_transposed(left), cotangent)


_multiply.defvjp(_multiply_forwards, _multiply_backwards)


def dot_general(
    left: jax.Array, right: jax.Array, axes: Any, **options: object
) -> jax.Array:
    """`multiply` for a dense layer of Flax, which asks for nothing else."""
    is_product = axes == (_LAST_BY_FIRST, ((), ())) and left.ndim == right.ndim == 2
    if not is_product or any(value is not None for value in options.values()):
        raise NotImplementedError(f"{axes} of {left.shape}, {right.shape}, {options}")
    return multiply(left, right)


def convolve_natively_in_bfloat16(
    images: jax.Array, kernel: jax.Array, padding: Padding = "VALID"
) -> jax.Array:
    """XLA's convolution, whose results and gradients are rounded to bfloat16 too.

    That is the form which the libraries of GPUs have; within it, sums are in float32.
    """
    images, kernel = images.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return convolve_natively(images, kernel, padding).astype(jnp.float32)


def convolve_by_slices_in_bfloat16(
    images: jax.Array, kernel: jax.Array, padding: Padding = "VALID"
) -> jax.Array:
    """One product with all shifted images, as `convolve_by_slices`."""
    return _convolve(images, _on_each_device(kernel, images), padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(images: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    return _convolve_forwards(images, kernel, padding)[0]


def _convolve_forwards(
    images: jax.Array, kernel: jax.Array, padding: Padding
) -> tuple[jax.Array, Any]:
    rows, columns, _, channels_out = kernel.shape
    # Else XLA rounds anew for each of the shifted slices.
    images = jax.lax.optimization_barrier(_rounded_bits(images))
    patches, (height, width) = patches_of(images, (rows, columns), padding)
    kernel = _rounded_bits(kernel)
    matrix = _transposed(kernel.reshape(-1, channels_out))
    product = _product(_from_bits(matrix), _from_bits(patches))
    result = product.reshape(channels_out, height, width, -1)
    return result, (patches, kernel)


def _convolve_backwards(padding: Padding, kept: Any, cotangent: jax.Array) -> tuple:
    patches, kernel = kept
    rows, columns, channels_in, channels_out = kernel.shape
    _, height, width, n = cotangent.shape
    if padding == "VALID":
        height, width = height + rows - 1, width + columns - 1
    bits = jax.lax.optimization_barrier(_rounded_bits(cotangent))
    cotangent = _from_bits(bits.reshape(channels_out, -1))
    of_patches = _product(_from_bits(kernel.reshape(-1, channels_out)), cotangent)
    _, sum_of_slices = jax.vjp(
        lambda images: patches_of(images, (rows, columns), padding)[0],
        jnp.zeros((channels_in, height, width, n)),
    )
    (of_images,) = sum_of_slices(of_patches)
    of_kernel = _product(cotangent, _from_bits(patches), _LAST_BY_LAST).T
    return of_images, of_kernel.reshape(kernel.shape)


_convolve.defvjp(_convolve_forwards, _convolve_backwards)
