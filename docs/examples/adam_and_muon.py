"""What noise and truncation do beside Adam and Muon: a demonstration, not a recipe.

Truncation goes after the optimiser, so it bounds the norm of the whole update, learning
rate included. Noise may stand in two places:

- Before the optimiser, one large draw stays in Adam's mean square gradient for about
  1 / (1 - b2) steps, and all updates are small for as long.
- Behind the optimiser, the noise does not pass through the learning rate. Here its scale
  has the schedule of the learning rate. With a constant scale it does more and more harm
  as the learning rate falls.

None of these is known to help: `benchmarks/adam.py` has the figures. Noise that comes
from the gradient may also pass through the optimiser's preconditioner, with
`inflate_preconditioned_noise`: then the jumps survive.
"""

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import heavytail_optax as hto

TAIL = hto.tails.symmetric_pareto(1.4)
OPTIMIZERS = {"adam": (optax.adam, 3e-3), "muon": (optax.contrib.muon, 2e-2)}


def chains(
    optimizer, learning_rate: float, steps: int
) -> dict[str, optax.GradientTransformation]:
    """The optimiser in four chains, all with one learning-rate schedule."""
    rate = optax.cosine_decay_schedule(learning_rate, steps)
    noise_scale = optax.cosine_decay_schedule(1e-4, steps)
    return {
        "alone": optimizer(rate),
        "truncated": optax.chain(optimizer(rate), hto.truncate_update_norm(0.25)),
        "noise before it": optax.chain(
            hto.add_heavy_tailed_noise(TAIL, 1e-3, key=0),
            optimizer(rate),
            hto.truncate_update_norm(0.25),
        ),
        "noise behind it": optax.chain(
            optimizer(rate),
            hto.add_heavy_tailed_noise(TAIL, noise_scale, key=0),
            hto.truncate_update_norm(0.25),
        ),
    }


def main(steps: int = 500) -> dict[str, float]:
    """Trains with each, and returns the accuracies on held-out images."""
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16.0, jnp.float32), jnp.asarray(labels)
    return {
        f"{name}, {chain}": _train(optimizer, images, labels, steps)
        for name, (make, learning_rate) in OPTIMIZERS.items()
        for chain, optimizer in chains(make, learning_rate, steps).items()
    }


def _logits(params, inputs: jax.Array) -> jax.Array:
    return jax.nn.relu(inputs @ params["hidden"]) @ params["output"]


def _train(
    optimizer: optax.GradientTransformation,
    images: jax.Array,
    labels: jax.Array,
    steps: int,
) -> float:
    hidden_key, output_key = jax.random.split(jax.random.key(0))
    params = {
        "hidden": jax.random.normal(hidden_key, (64, 64)) / 8,
        "output": jax.random.normal(output_key, (64, 10)) / 8,
    }

    @jax.jit(donate_argnums=(0, 1))
    def step(params, state, key):
        chosen = jax.random.choice(key, 1297, (64,), replace=False)

        def loss(params):
            return optax.softmax_cross_entropy_with_integer_labels(
                _logits(params, images[chosen]), labels[chosen]
            ).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for number in range(steps):
        params, state = step(params, state, jax.random.fold_in(hidden_key, number))
    predicted = _logits(params, images[1297:]).argmax(-1)
    return float((predicted == labels[1297:]).mean())


if __name__ == "__main__":
    for chain_name, accuracy in main().items():
        print(f"{chain_name}: test accuracy {accuracy:.3f}")
