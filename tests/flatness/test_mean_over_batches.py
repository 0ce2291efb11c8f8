import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_network

from heavytail_optax.flatness import gauss_newton_loss, loss_line, mean_over_batches

PARAMS, ARGS = small_network.make()


@pytest.mark.parametrize("batch_size", [7, 25, 1000])
def test_loss_and_gradient_are_those_of_all_data(batch_size):
    batched = mean_over_batches(small_network.loss, batch_size)
    for function in (lambda f: f, jax.grad):
        got = jax.jit(function(batched))(PARAMS, *ARGS)
        expected = function(small_network.loss)(PARAMS, *ARGS)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
            got,
            expected,
        )


def test_hessian_products_and_measures_take_it_for_the_loss():
    loss = gauss_newton_loss(small_network.predict, small_network.loss_of_outputs)
    vector = jax.tree.map(jnp.ones_like, PARAMS)

    @functools.partial(jax.jit, static_argnums=0)
    def product(loss, params):
        gradient = jax.grad(lambda params: loss(params, *ARGS))
        return jax.jvp(gradient, (params,), (vector,))[1]

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
        product(mean_over_batches(loss, 16), PARAMS),
        product(loss, PARAMS),
    )
    one, many = [
        loss_line(f, PARAMS, vector, [-1.0, 1.0], args=ARGS).losses
        for f in (small_network.loss, mean_over_batches(small_network.loss, 16))
    ]
    np.testing.assert_allclose(one, many, rtol=1e-5)


def test_equal_arguments_make_equal_losses():
    loss = mean_over_batches(small_network.loss, 3)
    assert loss == mean_over_batches(small_network.loss, 3)
    assert hash(loss) == hash(mean_over_batches(small_network.loss, 3))
    assert loss != mean_over_batches(small_network.loss, 4)


def temporary_bytes(loss, n):
    """Of a compiled Hessian-vector product with n examples of 1 KiB."""

    def product(params, vector, data):
        return jax.jvp(jax.grad(lambda p: loss(p, data)), (params,), (vector,))[1]

    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((256, 256),) * 2]
    data = jax.ShapeDtypeStruct((n, 256), jnp.float32)
    compiled = jax.jit(product).lower(*shapes, data).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_of_a_hessian_product_does_not_grow_with_the_data():
    def loss(params, data):
        return jnp.mean(jnp.tanh(jnp.tanh(data @ params) @ params) ** 2)

    batched = mean_over_batches(loss, 64)
    few, many = (temporary_bytes(batched, n) for n in (128, 4096))
    assert many < few + 2**20
    # Without batches it does.
    assert temporary_bytes(loss, 4096) > temporary_bytes(loss, 128) + 2**23


@pytest.mark.parametrize(
    "args",
    [(), (jnp.ones(3), jnp.ones(4)), (jnp.ones(3), jnp.ones(())), (jnp.ones((0, 2)),)],
)
def test_arrays_that_are_not_equally_long_are_refused(args):
    batched = mean_over_batches(lambda params, *args: jnp.sum(params), 2)
    with pytest.raises(ValueError, match="`args` argument of `mean_over_batches`"):
        batched(jnp.ones(2), *args)
