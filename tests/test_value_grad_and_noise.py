"""The gradient and a sample of its noise, from one forward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto

KEY = jax.random.key(0)


def loss_per_example(params, batch):
    """Its gradient for example i is batch[i]."""
    return batch @ params


@pytest.mark.parametrize("n", [2, 5, 8])
def test_gradient_and_noise_are_weighted_means_over_the_examples(n):
    batch = jnp.eye(n)
    value, grad, noise = hto.value_grad_and_noise(loss_per_example)(
        KEY, jnp.ones(n), batch
    )
    assert value == 1.0
    np.testing.assert_allclose(grad, np.full(n, 1 / n), rtol=1e-6)
    # Two values, which sum to zero and whose squares sum to n.
    signs = n * np.asarray(noise)
    in_a = n // 2
    assert (signs > 0).sum() == in_a
    np.testing.assert_allclose(signs.sum(), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.square(signs).sum(), n, rtol=1e-5)
    assert len(np.unique(signs.round(4))) == 2


def test_padding_does_not_count():
    params = jnp.ones(4)
    mask = jnp.array([True, False, True, False])
    value, grad, noise = hto.value_grad_and_noise(loss_per_example)(
        KEY, params, 3.0 * jnp.eye(4), masks=(mask,)
    )
    assert value == 3.0
    np.testing.assert_allclose(grad, [1.5, 0.0, 1.5, 0.0])
    np.testing.assert_allclose(jnp.abs(noise), [1.5, 0.0, 1.5, 0.0])
    one = hto.value_grad_and_noise(loss_per_example)(
        KEY, params, jnp.eye(4), masks=(jnp.arange(4) == 1,)
    )
    assert not jnp.any(one[2])


def test_the_noise_has_mean_zero_and_the_covariance_of_the_gradient():
    """Over 20,000 batches of 8: 4.5 standard errors, 3 numbers, 2e-5 of false alarms."""
    number, n = 20_000, 8
    examples = jax.random.gamma(KEY, 1.0, (number, n, 2)) * jnp.array([[[1.0, 2.0]]])
    keys = jax.random.split(jax.random.key(1), number)
    grad_fn = hto.value_grad_and_noise(loss_per_example)
    _, grads, noise = jax.jit(jax.vmap(lambda k, x: grad_fn(k, jnp.zeros(2), x)))(
        keys, examples
    )
    variance = np.array([1.0, 4.0]) / n
    assert np.all(np.abs(noise.mean(axis=0)) < 4.5 * np.sqrt(variance / number))
    squares = np.square(np.asarray(noise)) / variance
    error = squares.std(axis=0) / number**0.5
    assert np.all(np.abs(squares.mean(axis=0) - 1.0) < 4.5 * error)
    # The control: the gradient itself does not have mean zero.
    assert np.all(np.abs(grads.mean(axis=0)) > 100 * np.sqrt(variance / number))


def test_auxiliary_output_is_returned():
    def with_aux(params, batch):
        return loss_per_example(params, batch), {"batch": batch}

    (value, aux), grad, _ = hto.value_grad_and_noise(with_aux, has_aux=True)(
        KEY, jnp.ones(2), jnp.eye(2)
    )
    assert value == 1.0 and grad.shape == (2,)
    np.testing.assert_array_equal(aux["batch"], jnp.eye(2))


def test_it_takes_one_forward_pass():
    calls = []

    def counted(params, batch):
        jax.debug.callback(lambda: calls.append(1))
        return loss_per_example(params, batch)

    jax.block_until_ready(
        hto.value_grad_and_noise(counted)(KEY, jnp.ones(2), jnp.eye(2))
    )
    jax.effects_barrier()
    assert len(calls) == 1
