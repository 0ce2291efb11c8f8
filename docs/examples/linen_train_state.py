"""Flax Linen with a `TrainState`: only the optimiser changes.

The noise comes from a generator, as where the gradient cannot be changed. Tail inflation
works better: compute the gradient as in `equinox_model.py`, and pass it to
`state.apply_gradients`.
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

import heavytail_optax as hto


class Network(nn.Module):
    """Two dense layers."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        return nn.Dense(10)(nn.relu(nn.Dense(64)(images)))


def main(steps: int = 1000) -> float:
    """Trains, and returns the accuracy on held-out images."""
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16.0, jnp.float32), jnp.asarray(labels)
    network = Network()
    state = TrainState.create(
        apply_fn=network.apply,
        params=network.init(jax.random.key(0), images[:1])["params"],
        tx=hto.truncated_heavy_tailed_sgd(
            0.1, 0.25, hto.tails.symmetric_pareto(1.4), 1e-3, key=1
        ),
    )

    @jax.jit(donate_argnums=0)
    def step(state: TrainState, key: jax.Array) -> TrainState:
        chosen = jax.random.choice(key, 1297, (64,), replace=False)

        def loss(params):
            logits = state.apply_fn({"params": params}, images[chosen])
            return optax.softmax_cross_entropy_with_integer_labels(
                logits, labels[chosen]
            ).mean()

        return state.apply_gradients(grads=jax.grad(loss)(state.params))

    for number in range(steps):
        state = step(state, jax.random.fold_in(jax.random.key(2), number))
    logits = network.apply({"params": state.params}, images[1297:])
    return float((logits.argmax(-1) == labels[1297:]).mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.3f}")
