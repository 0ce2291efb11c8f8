"""Random labels for some of the training images."""

import jax


def corrupt_labels(
    key: jax.Array, labels: jax.Array, *, first: int, num_classes: int
) -> jax.Array:
    """Draws the labels from position `first` on uniformly from all classes.

    A random label is the true one with probability 1/num_classes, as in the paper's
    protocol.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> labels = jnp.zeros(6, jnp.int32)
      >>> noisy = corrupt_labels(jax.random.key(0), labels, first=3, num_classes=10)
      >>> noisy[:3].tolist()
      [0, 0, 0]
    """
    shape = labels[first:].shape
    drawn = jax.random.randint(key, shape, 0, num_classes, labels.dtype)
    return labels.at[first:].set(drawn)
