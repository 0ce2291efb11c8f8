"""Flax NNX: tail inflation and truncation with `nnx.Optimizer`.

The optimiser is Flax's own. Only the gradient changes: it is that of a loss per example,
as a function of the parameters, so the step splits the model and merges it again.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_digits

import heavytail_optax as hto


class Network(nnx.Module):
    """Two dense layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(64, 64, rngs=rngs)
        self.output = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.output(nnx.relu(self.hidden(images)))


def main(steps: int = 1000) -> float:
    """Trains, and returns the accuracy on held-out images."""
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16.0, jnp.float32), jnp.asarray(labels)
    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(
        model,
        optax.chain(
            optax.sgd(optax.cosine_decay_schedule(0.1, steps)),
            hto.truncate_update_norm(optax.cosine_decay_schedule(0.75, steps)),
        ),
        wrt=nnx.Param,
    )

    @nnx.jit(donate_argnums=(0, 1))
    def step(model: Network, optimizer: nnx.Optimizer, key: jax.Array) -> jax.Array:
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss_per_example(params, batch):
            inputs, targets = batch
            logits = nnx.merge(graphdef, params, rest)(inputs)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets)

        # The gradient's own noise, multiplied by a Pareto draw: one backward pass.
        gradient = hto.tail_inflated_value_and_grad(
            loss_per_example, hto.tails.pareto(1.4), 1.0
        )
        batch_key, noise_key = jax.random.split(key)
        chosen = jax.random.choice(batch_key, 1297, (64,), replace=False)
        loss, grads = gradient(noise_key, params, (images[chosen], labels[chosen]))
        optimizer.update(model, grads)
        return loss

    for number in range(steps):
        step(model, optimizer, jax.random.fold_in(jax.random.key(0), number))
    cut = int(hto.summary(optimizer)["num_truncated"])
    print(f"{cut} of {steps} updates were truncated")
    predicted = model(images[1297:]).argmax(-1)
    return float((predicted == labels[1297:]).mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.3f}")
