import jax
import pytest

from heavytail_optax import cli
from heavytail_optax.experiments.devices.parallel import DevicesError
from heavytail_optax.experiments.runs.options import (
    THIS_MACHINE,
    Machine,
    find_devices,
)


def test_one_device_is_the_default():
    options = find_devices(THIS_MACHINE)
    assert options.mesh is None
    assert options.writes and not options.tensorboard


def test_several_processes_use_all_devices(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    options = find_devices(THIS_MACHINE)
    assert options.mesh.size == len(jax.devices())
    assert not options.writes
    with pytest.raises(DevicesError, match="must be all where there are several"):
        find_devices(Machine(devices=1))


def test_devices_asked_for():
    assert find_devices(Machine(devices=1)).mesh is None
    assert find_devices(Machine(devices=8)).mesh.size == 8
    assert find_devices(Machine(devices="all")).mesh.size == 8


@pytest.mark.parametrize("devices", ["0", "-1", "9"])
@pytest.mark.parametrize("command", ["train", "reproduce"])
def test_devices_that_are_not_there_are_refused_before_work_starts(
    command, devices, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, "--devices", devices]) == 1
    error = capsys.readouterr().err
    assert "`devices`" in error
    assert "from 1 to 8" in error and f"Got {devices} instead" in error
    if command == "train":
        assert not list(tmp_path.iterdir())


def test_a_word_that_is_no_number_of_devices_is_refused(capsys):
    assert cli.main(["train", "--devices", "al"]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "Error parsing --devices: no type matching INT|{all}" in message
    assert "['al']" in message
