"""Where everything is in the directory of a run, and in that of a grid of runs."""

import pathlib
from typing import NamedTuple


class RunPaths(NamedTuple):
    """The files of one run: one method, one seed."""

    directory: pathlib.Path

    @property
    def config(self) -> pathlib.Path:
        """Settings and their sources, versions, device, command, data."""
        return self.directory / "config.json"

    @property
    def metrics(self) -> pathlib.Path:
        """One line an evaluation."""
        return self.directory / "metrics.jsonl"

    @property
    def checkpoints(self) -> pathlib.Path:
        """The newest two states."""
        return self.directory / "checkpoints"

    @property
    def measurements(self) -> pathlib.Path:
        """All measures of the result, and how they were computed."""
        return self.directory / "measurements.json"

    @property
    def gradient_noise(self) -> pathlib.Path:
        """Sizes of the noise of gradients, a file for each number and size of batches."""
        return self.directory / "gradient_noise"

    @property
    def tensorboard(self) -> pathlib.Path:
        """The metrics again, for TensorBoard."""
        return self.directory / "tensorboard"

    @property
    def failure(self) -> pathlib.Path:
        """The traceback of an error that nobody expected."""
        return self.directory / "failure.txt"

    def noise_of(self, draws: int, batch_size: int) -> pathlib.Path:
        """The sizes of the noise of so many batches."""
        return self.gradient_noise / f"{draws}-batches-of-{batch_size}.npz"

    def earlier(self, number: int) -> pathlib.Path:
        """What the run lost with its checkpoints the first, second, ... time."""
        return self.directory / f"earlier-{number}"


def grid_path(directory: pathlib.Path) -> pathlib.Path:
    """Where a grid says what it is."""
    return directory / "grid.json"


def plot_path(directory: pathlib.Path) -> pathlib.Path:
    """The picture of a grid with one seed: loss and accuracy of all its runs."""
    return directory / "training.png"


def lock_path(directory: pathlib.Path) -> pathlib.Path:
    """The file that the process holding a directory has locked."""
    return directory / "run.lock"


def holder_path(directory: pathlib.Path) -> pathlib.Path:
    """What that process says about itself."""
    return directory / "run.holder"
