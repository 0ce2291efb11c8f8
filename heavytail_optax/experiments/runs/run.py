"""A run: one method with one seed, in a directory of its own."""

import pathlib
from typing import NamedTuple

from heavytail_optax.experiments.measure_names import MeasureName
from heavytail_optax.experiments.methods import METHODS, MethodName
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.storage.run_paths import RunPaths


class Run(NamedTuple):
    """What is run and where; `result` reads what it has come to."""

    name: str  # of its row in tables: the method's, or another in a study
    directory: pathlib.Path
    settings: Settings
    measures: tuple[MeasureName, ...] = ()  # that the run is not done without

    @property
    def paths(self) -> RunPaths:
        """Its files."""
        return RunPaths(self.directory)

    @property
    def method(self) -> MethodName:
        """The name of its method."""
        return self.settings.method.method

    @property
    def label(self) -> str:
        """Name and seed, for people to read."""
        is_method = self.name == self.method
        name = METHODS[self.method].label if is_method else self.name
        return f"{name}, seed {self.settings.seed}"
