import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from flax import nnx

from heavytail_optax.experiments.models.convolutions import (
    convolve,
    convolve_by_slices,
    convolve_natively,
)
from heavytail_optax.experiments.models.networks import max_pool

CASES = [
    # images (channels, height, width, n), kernel, padding
    ((1, 28, 28, 3), (5, 5, 1, 10), "VALID"),
    ((10, 12, 12, 2), (5, 5, 10, 10), "VALID"),
    ((3, 7, 9, 1), (3, 2, 3, 4), "VALID"),
    ((3, 7, 9, 1), (3, 2, 3, 4), "SAME"),
    ((3, 32, 32, 2), (3, 3, 3, 16), "SAME"),
    ((64, 5, 4, 2), (3, 3, 64, 32), "SAME"),
    ((128, 2, 2, 3), (3, 3, 128, 512), "SAME"),
    ((4, 1, 1, 3), (3, 3, 4, 2), "SAME"),
]

# In units of the standard deviation of the sums, which are of up to 1,152 products.
TOLERANCE = {"float32": 3e-5, "float64": 1e-13}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def normal(seed, shape, dtype):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def assert_close(ours, theirs, dtype):
    assert ours.dtype == theirs.dtype == dtype
    scale = np.std(theirs)
    np.testing.assert_allclose(ours / scale, theirs / scale, atol=TOLERANCE[dtype])


def values_and_gradients(function, images, kernel, padding):
    weights = normal(2, function(images, kernel, padding).shape, images.dtype)

    def weighted_sum(images, kernel):
        result = function(images, kernel, padding)
        return (weights * result).sum(), result

    gradient = jax.jit(jax.grad(weighted_sum, argnums=(0, 1), has_aux=True))
    gradients, values = gradient(images, kernel)
    return values, *gradients


@pytest.mark.parametrize(("images_shape", "kernel_shape", "padding"), CASES)
def test_slices_and_native_agree(images_shape, kernel_shape, padding, dtype):
    images, kernel = normal(0, images_shape, dtype), normal(1, kernel_shape, dtype)
    ours = values_and_gradients(convolve_by_slices, images, kernel, padding)
    native = values_and_gradients(convolve_natively, images, kernel, padding)
    for one, other in zip(ours, native, strict=True):
        assert_close(one, other, dtype)


@pytest.mark.parametrize("function", [convolve, convolve_by_slices, convolve_natively])
@pytest.mark.parametrize(("padding", "mode"), [("SAME", "same"), ("VALID", "valid")])
def test_convolution_is_that_of_scipy(function, padding, mode):
    images, kernel = (
        normal(0, (2, 6, 5, 3), "float32"),
        normal(1, (3, 3, 2, 4), "float32"),
    )
    result = function(images, kernel, padding)
    for out in range(4):
        for n in range(3):
            expected = sum(
                scipy.signal.correlate2d(
                    np.float64(images[c, :, :, n]),
                    np.float64(kernel[:, :, c, out]),
                    mode=mode,
                )
                for c in range(2)
            )
            np.testing.assert_allclose(result[out, :, :, n], expected, atol=1e-5)


def test_the_cpu_uses_slices_and_other_devices_the_native_convolution(monkeypatch):
    images, kernel = jnp.ones((2, 5, 5, 3)), jnp.ones((3, 3, 2, 4))
    programs = {}
    for backend in ("cpu", "gpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        # A new function each time: JAX remembers those that it has seen.
        program = jax.make_jaxpr(lambda *pair: convolve(*pair, "SAME"))(images, kernel)
        programs[backend] = "conv_general_dilated" in str(program)
    assert programs == {"cpu": False, "gpu": True, "tpu": True}


@pytest.mark.parametrize("shape", [(3, 8, 6, 2), (2, 7, 5, 1)])
def test_max_pool_is_that_of_flax(shape):
    images = normal(0, shape, "float32")
    expected = nnx.max_pool(images.transpose(3, 1, 2, 0), (2, 2), (2, 2))
    np.testing.assert_array_equal(max_pool(images), expected.transpose(3, 1, 2, 0))


def test_the_gradient_of_a_tie_is_shared():
    # A flat square is what a flat background gives.
    square = jnp.array([1.0, 1.0, 1.0, 0.0]).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda images: max_pool(images).sum())(square)
    np.testing.assert_allclose(gradient.ravel(), [1 / 3, 1 / 3, 1 / 3, 0])
