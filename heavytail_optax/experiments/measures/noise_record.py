"""The noise that has been measured of a run: a file in gradient_noise/."""

import json
import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np

from heavytail_optax.experiments.measures.gradient_noise import SIZES, NoiseDraws
from heavytail_optax.experiments.storage.durable_files import replacing


def write_noise(
    path: pathlib.Path, draws: NoiseDraws, arguments: Mapping[str, int]
) -> None:
    """Keeps what has been measured, all at once or not at all."""
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, arguments=json.dumps(dict(arguments)), **draws._asdict())
    _to_repeat(path).unlink(missing_ok=True)


def ask_noise_again(path: pathlib.Path) -> None:
    """Marks what is kept to be measured again; tables show it until then."""
    if path.exists():
        _to_repeat(path).touch()


def is_noise_measured(path: pathlib.Path, arguments: Mapping[str, int]) -> bool:
    """Whether it is kept, and not asked for again."""
    kept = read_noise(path)
    return kept is not None and kept[1] == arguments and not _to_repeat(path).exists()


def _to_repeat(path: pathlib.Path) -> pathlib.Path:
    return path.with_suffix(".to-repeat")


def read_noise(path: pathlib.Path) -> tuple[NoiseDraws, dict[str, int]] | None:
    """What was kept, with its arguments; None if there is no such file, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            draws = NoiseDraws(**{name: kept[name] for name in NoiseDraws._fields})
            arguments = json.loads(str(kept["arguments"]))
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    shape = len(SIZES), len(draws.layers), draws.gradient_norms.size
    if draws.sizes.shape != shape or not isinstance(arguments, dict):
        return None
    layers, parameters = draws.layers.tolist(), draws.parameters.tolist()
    return draws._replace(layers=tuple(layers), parameters=tuple(parameters)), arguments
