"""Equinox: the model is the pytree of parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import heavytail_optax as hto


def main(steps: int = 1000) -> float:
    """Trains, and returns the accuracy on held-out images."""
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16.0, jnp.float32), jnp.asarray(labels)
    model = eqx.nn.MLP(64, 10, 64, depth=1, key=jax.random.key(0))
    # Functions such as the activation are also leaves, but they are not parameters.
    params, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss_per_example(params, batch):
        inputs, targets = batch
        logits = jax.vmap(eqx.combine(params, rest))(inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)

    gradient = hto.tail_inflated_value_and_grad(
        loss_per_example, hto.tails.pareto(1.4), scale=1.0
    )
    optimizer = optax.chain(optax.sgd(0.1), hto.truncate_update_norm(0.75))

    @jax.jit(donate_argnums=(0, 1))
    def step(params, state, key):
        batch_key, noise_key = jax.random.split(key)
        chosen = jax.random.choice(batch_key, 1297, (64,), replace=False)
        loss, grads = gradient(noise_key, params, (images[chosen], labels[chosen]))
        updates, state = optimizer.update(grads, state, params)
        return eqx.apply_updates(params, updates), state, loss

    state = optimizer.init(params)
    for number in range(steps):
        key = jax.random.fold_in(jax.random.key(1), number)
        params, state, _ = step(params, state, key)
    logits = jax.vmap(eqx.combine(params, rest))(images[1297:])
    return float((logits.argmax(-1) == labels[1297:]).mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.3f}")
