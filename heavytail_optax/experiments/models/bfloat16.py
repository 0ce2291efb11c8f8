"""Matrix products in bfloat16, summed in float32, and convolutions made of them.

Both operands of a product are rounded to bfloat16 (8 significant bits, the range of
float32). The products of two such numbers are exact in float32, where they are summed.
JAX's own gradient of such a product would be in bfloat16, so these functions have one of
theirs: both gradients are such products again, of the rounded cotangent.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from .convolutions import Padding, convolve_natively, patches_of

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
