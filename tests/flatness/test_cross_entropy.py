"""Softmax cross-entropy with its closed second derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from heavytail_optax import flatness

LOGITS = jax.random.normal(jax.random.key(0), (6, 5)) * 3
LABELS = jnp.array([0, 4, 2, 2, 1, 3])
# A few roundings of the largest number in the sum.
ROUNDING = 4 * float(jnp.finfo(jnp.float32).eps * jnp.abs(LOGITS).max())


def ours(logits, labels):
    return flatness.softmax_cross_entropy(logits, labels).mean()


def closed_form(logits, labels):
    """Loss, gradient and Hessian product with ones, in float64 by NumPy."""
    z = np.asarray(logits, np.float64)
    shares = np.exp(z - z.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    hot = np.eye(z.shape[-1])[np.asarray(labels)]
    direction = np.cos(np.arange(z.size)).reshape(z.shape)
    moved = shares * direction
    curved = moved - shares * moved.sum(-1, keepdims=True)
    return -np.log((shares * hot).sum(-1)), shares - hot, curved, direction


def test_value_and_derivatives_are_the_closed_forms():
    losses, slope, curved, direction = closed_form(LOGITS, LABELS)
    n = len(LABELS)
    np.testing.assert_allclose(
        flatness.softmax_cross_entropy(LOGITS, LABELS), losses, atol=ROUNDING
    )
    gradient = jax.grad(ours)
    np.testing.assert_allclose(gradient(LOGITS, LABELS), slope / n, atol=1e-7)
    _, product = jax.jvp(
        lambda z: gradient(z, LABELS), (LOGITS,), (jnp.asarray(direction, jnp.float32),)
    )
    np.testing.assert_allclose(product, curved / n, atol=1e-7)


def test_reverse_over_reverse_and_forward_are_the_same():
    _, _, curved, direction = closed_form(LOGITS, LABELS)
    direction = jnp.asarray(direction, jnp.float32)

    def slope_along(logits):
        return jnp.vdot(jax.grad(ours)(logits, LABELS), direction)

    product = jax.grad(slope_along)(LOGITS)
    np.testing.assert_allclose(product, curved / len(LABELS), atol=1e-7)
    _, along = jax.jvp(lambda z: ours(z, LABELS), (LOGITS,), (direction,))
    assert along == pytest.approx(float(slope_along(LOGITS)), rel=1e-5)


def test_large_logits_stay_finite():
    logits = jnp.array([[1e4, 0.0, -1e4]])
    for label, loss in ((0, 0.0), (1, 1e4), (2, 2e4)):
        value, slope = jax.value_and_grad(ours)(logits, jnp.array([label]))
        assert float(value) == loss
        assert bool(jnp.isfinite(slope).all())


def test_half_precision_is_computed_in_float32():
    half = LOGITS.astype(jnp.bfloat16)
    losses = flatness.softmax_cross_entropy(half, LABELS)
    assert losses.dtype == jnp.float32
    expected = closed_form(half.astype(jnp.float32), LABELS)[0]
    np.testing.assert_allclose(losses, expected, atol=ROUNDING)


def test_gauss_newton_with_it_is_that_with_optax():
    inputs = jax.random.normal(jax.random.key(1), (6, 3))
    params = {
        "in": jax.random.normal(jax.random.key(2), (3, 4)),
        "out": jax.random.normal(jax.random.key(3), (4, 5)),
    }

    def predict(params, inputs, labels):
        return jnp.tanh(inputs @ params["in"]) @ params["out"]

    def optax_loss(outputs, inputs, labels):
        of_each = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
        return of_each.mean()

    def trace(loss):
        return flatness.hessian_trace(
            flatness.gauss_newton_loss(predict, loss),
            params,
            key=0,
            args=(inputs, LABELS),
            num_samples=3,
        )

    ours_of = trace(lambda outputs, inputs, labels: ours(outputs, labels))
    np.testing.assert_allclose(ours_of, trace(optax_loss), rtol=1e-5)


def arrays_kept(loss_of_each, classes=1000):
    """Arrays of the size of the logits that a product needs of those before it."""
    logits, labels = jnp.zeros((2, classes)), jnp.array([0, 1])

    def gradient(logits):
        return jax.grad(lambda z: loss_of_each(z, labels).mean())(logits)

    _, product = jax.linearize(gradient, logits)
    return sum(x.size >= logits.size for x in jax.tree.leaves(product))


def test_a_product_keeps_fewer_arrays_of_the_size_of_the_logits():
    other = optax.softmax_cross_entropy_with_integer_labels
    assert arrays_kept(flatness.softmax_cross_entropy) < arrays_kept(other)


@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_outside_is_nan(label):
    assert bool(jnp.isnan(ours(LOGITS[:1], jnp.array([label]))))


@pytest.mark.parametrize(
    ("logits", "labels", "error", "name"),
    [
        (jnp.arange(5), jnp.array(1), TypeError, "logits"),
        (LOGITS, LABELS.astype(float), TypeError, "labels"),
        (LOGITS, LABELS[:5], ValueError, "labels"),
        (jnp.float32(1.0), jnp.array(0), ValueError, "labels"),
    ],
)
def test_bad_arguments_are_named(logits, labels, error, name):
    with pytest.raises(error, match=f"`{name}`"):
        flatness.softmax_cross_entropy(logits, labels)


@pytest.mark.parametrize(
    ("dtype", "classes"),
    [("uint8", 256), ("uint8", 257), ("uint8", 300), ("int8", 128)],
)
def test_labels_of_a_narrow_type_are_those_of_optax(dtype, classes):
    logits = jax.random.normal(jax.random.key(0), (3, classes))
    labels = jnp.array([1, 5, 100], dtype)
    found = flatness.softmax_cross_entropy(logits, labels)
    wanted = optax.softmax_cross_entropy_with_integer_labels(
        logits, labels.astype("int32")
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
