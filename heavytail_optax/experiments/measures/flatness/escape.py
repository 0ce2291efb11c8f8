"""How likely jumps of the norm b of the truncation leave the minimum."""

import math

import jax
import jax.numpy as jnp

import heavytail_optax as hto

from ..measure import Arguments, Measure, Measurement, Tick, TrainedNetwork

_IMAGES = 200
_SCALARS = ("escape_noise", "escape_eigenvector", "escape_isotropic")
# Descent has come to its end where its gradient is smaller than this.
_SMALL_GRADIENT = 0.1


def _escape(
    network: TrainedNetwork, arguments: Arguments, tick: Tick
) -> Measurement | None:
    settings = dict(arguments)
    images = settings.pop("images")
    network = network.on_images(images)
    top = network.top_eigenvalues
    batch = max(1, min(network.settings.training.batch_size, images // 2))
    directions = {
        "noise": hto.flatness.gradient_noise_direction(network.loss, batch),
        "eigenvector": jax.tree.map(lambda x: x[0], top.vectors),
        "isotropic": "isotropic",
    }
    # On a CPU, paths side by side take twice the time of one after another.
    at_once = 1 if jax.default_backend() == "cpu" else None
    scalars, curves, gradient_norms = {}, {}, []
    for number, (name, direction) in enumerate(directions.items()):
        if tick(number, len(directions)):
            return None
        try:
            options = {"direction": direction, "samples_at_once": at_once, **settings}
            profile = network.apply(hto.flatness.escape_profile, **options)
        except ValueError as error:
            # The loss at the parameters is finite, and all other arguments are ours.
            if "learning_rate" not in str(error):
                raise
            nothing = {name: (math.nan, None) for name in _SCALARS}
            remark = "descent at the learning rate of the run diverges"
            return Measurement(nothing, {}, remark)
        last = float(profile.probability[-1])
        scalars[f"escape_{name}"] = (last, _wilson_error(last, settings["num_samples"]))
        curves[f"escape_{name}"] = _columns(profile)
        gradient_norms.append(float(jnp.median(profile.paths.gradient_norms)))
    remark = _remark(arguments, float(top.values[0]), max(gradient_norms))
    return Measurement(scalars, curves, remark)


ESCAPE = Measure(
    name="escape",
    summary="how likely jumps of the norm b of the truncation leave the minimum",
    scalars=_SCALARS,
    arguments=lambda settings, options: {
        "jump_norm": settings.method.jump_norm,
        "learning_rate": settings.training.learning_rate,
        "max_jumps": options.jumps,
        "num_samples": options.paths,
        "flow_steps": 10,
        "descent_steps": 100,
        "barrier_threshold": 0.1,
        "num_points": 11,
        # On all training images descent would take hours.
        "images": min(_IMAGES, options.images_of(settings)),
    },
    compute=_escape,
    is_of_layers=False,
)


def _columns(profile: "hto.flatness.EscapeProfile") -> dict[str, list[float]]:
    names = ("jumps", "probability", "lower", "upper")
    columns = {name: getattr(profile, name) for name in names}
    paths = {
        "distance": profile.paths.distances,
        "barrier": profile.paths.barriers,
        "loss": profile.paths.losses,
        "gradient_norm": profile.paths.gradient_norms,
    }
    for name, values in paths.items():
        columns[f"median_{name}"] = jnp.median(values, axis=0)
    return {name: values.tolist() for name, values in columns.items()}


def _wilson_error(share: float, paths: int) -> float:
    """Half of Wilson's interval at one standard deviation: not zero at 0 and 1."""
    inside = share * (1 - share) / paths + 1 / (4 * paths**2)
    return math.sqrt(inside) / (1 + 1 / paths)


def _remark(arguments: Arguments, top_eigenvalue: float, gradient_norm: float) -> str:
    limit = 2 / arguments["learning_rate"]
    if top_eigenvalue > limit:
        return (
            f"descent is unstable at the minimum itself: the largest eigenvalue, "
            f"{top_eigenvalue:.3g}, is above 2 / learning rate = {limit:.3g}"
        )
    if gradient_norm > _SMALL_GRADIENT:
        return (
            "descent has not come to its end: the median norm of the gradient there is "
            f"up to {gradient_norm:.2g}"
        )
    return ""
