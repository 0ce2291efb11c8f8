"""File systems that are full, tiny or read-only, for tests of what then happens."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest


@contextlib.contextmanager
def mounted_tmpfs(directory, options):
    """Mounts a file system in memory; skips the test where that is not allowed."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("Mounting a small file system needs Linux and root.")
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("Mounting is not allowed here.")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def make_read_only(directory):
    """What comes after can only be read."""
    options = ["-o", "remount,ro", str(directory)]
    subprocess.run(["mount", *options], check=True)
