"""A small network with its data, and the dense matrices of its loss."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import optax

NUM_EXAMPLES = 50


def predict(params, inputs, labels):
    del labels
    hidden = jnp.tanh(inputs @ params["first"] + params["bias"][None])
    return hidden @ params["second"]


def loss_of_outputs(outputs, inputs, labels):
    del inputs
    return optax.losses.softmax_cross_entropy_with_integer_labels(
        outputs, labels
    ).mean()


def loss(params, inputs, labels):
    return loss_of_outputs(predict(params, inputs, labels), inputs, labels)


def make():
    """Parameters, 48 of them, and (inputs, labels)."""
    keys = jax.random.split(jax.random.key(0), 5)
    params = {
        "first": jax.random.normal(keys[0], (4, 6)),
        "bias": 0.1 * jax.random.normal(keys[1], (6,)),
        "second": jax.random.normal(keys[2], (6, 3)),
    }
    inputs = jax.random.normal(keys[3], (NUM_EXAMPLES, 4))
    labels = jax.random.randint(keys[4], (NUM_EXAMPLES,), 0, 3)
    return params, (inputs, labels)


def dense_hessian(loss_fn, params, args):
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    return jax.jit(jax.hessian(lambda x: loss_fn(unravel(x), *args)))(flat)


def dense_gauss_newton(params, args):
    """`J^T H J`, from the Jacobian and the Hessian in the outputs."""
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def outputs_of(x):
        return predict(unravel(x), *args)

    jacobian = jax.jit(jax.jacobian(outputs_of))(flat).reshape(-1, flat.size)
    outputs = outputs_of(flat)
    inner = jax.hessian(lambda y: loss_of_outputs(y.reshape(outputs.shape), *args))
    return jacobian.T @ jax.jit(inner)(outputs.ravel()) @ jacobian
