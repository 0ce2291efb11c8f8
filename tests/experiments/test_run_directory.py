import json
import os
import pathlib

import pytest

from heavytail_optax.experiments.storage.run_directory import (
    GRID,
    RunDirectoryError,
    RunPaths,
    claim,
    claim_next,
    read_config,
    write_config,
)


def config_path(directory):
    return RunPaths.of(directory).config


def write(directory, settings):
    write_config(
        config_path(directory),
        settings,
        preset="corrupted-digits",
        sources={"seed": "ours"},
        data={"train_images": 100},
        command="heavytail train",
        device="cpu",
    )


def test_new_and_empty_directories_are_taken(tmp_path):
    claim(tmp_path / "a" / "b")
    claim(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_what_a_kill_at_the_start_leaves_is_taken(tmp_path):
    """Each file that is there at some moment before the record of the grid is."""
    for name in ("run.lock", "run.holder", "run.holder.partial", "grid.json.partial"):
        (tmp_path / name).touch()
        claim(tmp_path)


def test_a_directory_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunDirectoryError, match="is not empty. Choose another"):
        claim(tmp_path)
    (tmp_path / GRID).touch()
    with pytest.raises(RunDirectoryError, match=f"--resume {tmp_path}"):
        claim(tmp_path)


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(FileExistsError, match=str(tmp_path / "file")):
            claim(directory)
    with pytest.raises(FileExistsError, match=str(tmp_path / "file")):
        claim_next(tmp_path / "file", "digits")


def test_numbers_go_up(tmp_path):
    (tmp_path / "digits-002").mkdir()
    names = [claim_next(tmp_path, "digits").name for _ in range(3)]
    assert names == ["digits-001", "digits-003", "digits-004"]


def test_config_comes_back(tmp_path, tiny):
    write(tmp_path, tiny)
    config = read_config(config_path(tmp_path))
    assert config["settings"] == tiny
    assert config["sources"] == {"seed": "ours"}
    assert {"jax", "optax", "flax", "python"} <= set(config["versions"])


def test_what_cannot_be_resumed_is_told(tmp_path, tiny):
    with pytest.raises(RunDirectoryError, match="is missing"):
        read_config(config_path(tmp_path))
    path = config_path(tmp_path)
    path.write_text("{", "utf-8")
    with pytest.raises(RunDirectoryError, match="is not understood"):
        read_config(config_path(tmp_path))
    write(tmp_path, tiny)
    config = json.loads(path.read_text("utf-8"))
    for change, message in (
        ({"settings": {**config["settings"], "seed": -1}}, "`seed` setting"),
        (
            {"settings": {**config["settings"], "new": 0}},
            "is not known to this version",
        ),
        ({"settings": []}, "its entry `settings` is missing or of the wrong type"),
        ({"preset": 3}, "its entry `preset` is missing or of the wrong type"),
        ({"data": None}, "its entry `data` is missing or of the wrong type"),
    ):
        path.write_text(json.dumps({**config, **change}), "utf-8")
        with pytest.raises(RunDirectoryError, match=message):
            read_config(config_path(tmp_path))
    path.write_text("[]", "utf-8")
    with pytest.raises(RunDirectoryError, match="holds no JSON object"):
        read_config(config_path(tmp_path))
    path.write_bytes(b"\xff\x00")
    with pytest.raises(RunDirectoryError, match="is not understood"):
        read_config(config_path(tmp_path))


@pytest.mark.parametrize("number", [4, 1, "3", None])
def test_a_later_format_is_told_with_the_version_that_wrote_it(tmp_path, tiny, number):
    write(tmp_path, tiny)
    path = config_path(tmp_path)
    config = {**json.loads(path.read_text("utf-8")), "format": number}
    config["versions"]["heavytail-optax"] = "9.9"
    path.write_text(json.dumps(config), "utf-8")
    message = f"its format is {number!r}, and this version reads 3.*heavytail-optax 9.9"
    with pytest.raises(RunDirectoryError, match=message):
        read_config(config_path(tmp_path))


def test_a_kill_while_the_config_is_written_leaves_none(tmp_path, tiny, monkeypatch):
    def killed(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    # A killed process does not tidy up.
    monkeypatch.setattr(pathlib.Path, "unlink", lambda *args, **kwargs: None)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, tiny)
    monkeypatch.undo()
    assert not config_path(tmp_path).exists()
    assert any(tmp_path.iterdir())
    write(tmp_path, tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
