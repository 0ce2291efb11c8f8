"""Gradient accumulation: one draw for each accumulated update.

The micro-batches are the groups of tail inflation: each gradient is multiplied by a
factor of its own, and `optax.MultiSteps` takes the mean. Nothing is computed twice. The
loss may be of any kind, also with batch normalisation.
"""

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import heavytail_optax as hto

MICRO_BATCHES, SIZE = 4, 32


def main(steps: int = 500) -> float:
    """Trains, and returns the accuracy on held-out images."""
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16.0, jnp.float32), jnp.asarray(labels)
    optimizer = optax.MultiSteps(
        optax.chain(optax.sgd(0.1), hto.truncate_update_norm(0.25)),
        every_k_schedule=MICRO_BATCHES,
    )
    tail, scale = hto.tails.pareto(1.4), 1.0

    @jax.jit(donate_argnums=(0, 1))
    def micro_step(params, state, key, index):
        # The micro-steps of one update share everything except the batch.
        draw_key, split_key, batch_key = jax.random.split(key, 3)
        z = scale * tail.sample(draw_key)
        factors = hto.group_inflation_factors(
            z, num_groups=MICRO_BATCHES, key=split_key
        )
        batch_key = jax.random.fold_in(batch_key, index)
        chosen = jax.random.choice(batch_key, 1297, (SIZE,), replace=False)

        def loss(params):
            logits = images[chosen] @ params["w"] + params["b"]
            return optax.softmax_cross_entropy_with_integer_labels(
                logits, labels[chosen]
            ).mean()

        grads = jax.tree.map(lambda g: factors[index] * g, jax.grad(loss)(params))
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}
    state = optimizer.init(params)
    for number in range(steps):
        key = jax.random.fold_in(jax.random.key(0), number)
        for index in range(MICRO_BATCHES):
            params, state = micro_step(params, state, key, index)
    logits = images[1297:] @ params["w"] + params["b"]
    return float((logits.argmax(-1) == labels[1297:]).mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.3f}")
