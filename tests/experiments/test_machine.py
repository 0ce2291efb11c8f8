import jax
import pytest

from heavytail_optax import cli
from heavytail_optax.experiments.errors import JobError
from heavytail_optax.experiments.runs.options import THIS_MACHINE, Machine


def test_one_device_is_the_default():
    assert THIS_MACHINE.mesh() is None


def test_several_processes_use_all_devices(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert THIS_MACHINE.mesh().size == len(jax.devices())
    with pytest.raises(JobError, match="`devices`.* must be all"):
        Machine(devices=1).mesh()


def test_devices_asked_for():
    assert Machine(devices=1).mesh() is None
    assert Machine(devices=8).mesh().size == 8
    assert Machine(devices="all").mesh().size == 8


@pytest.mark.parametrize("devices", ["0", "-1", "9"])
@pytest.mark.parametrize("command", ["train", "reproduce"])
def test_devices_that_are_not_there_are_refused_before_work_starts(
    command, devices, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, "--devices", devices]) == 2
    error = capsys.readouterr().err
    assert "--devices" in error
    assert "from 1 to 8" in error and f"Got {devices} instead" in error
    if command == "train":
        assert not list(tmp_path.iterdir())


def test_a_word_that_is_no_number_of_devices_is_refused(capsys):
    assert cli.main(["train", "--devices", "al"]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "--devices" in message and "'al'" in message
