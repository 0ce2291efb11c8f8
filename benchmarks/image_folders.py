"""Time and memory of reading a folder of PNG files, beside torchvision's ImageFolder.

Ours decodes all images (first start), or reads what an earlier start has decoded (second
start). torchvision's ImageFolder is read by a DataLoader with two workers, in batches of
500 images of bytes, which are joined. Each is a process of its own, the three in turn.
Imports do not count. The files are in the system's cache after a pass that does not count
either. Processor time and memory are those of the process and its workers: all their
pages, shared ones divided, at the highest, less those before. It needs Linux.

    python benchmarks/image_folders.py --folder DIR --torch-python VENV/bin/python \\
        --out benchmarks/results/image_folders.csv

DIR has train/CLASS/*.png and test/CLASS/*.png. Without it, such images are made. PyTorch
and torchvision may be in another environment, whose Python is --torch-python.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

WORKERS = 2
BATCH_SIZE = 500
SECONDS_BETWEEN_LOOKS = 0.05
Read = Callable[[pathlib.Path], tuple[int, ...]]


def prepare_ours() -> Read:
    """What reads both splits, and returns the shape of all images together."""
    from PIL import Image

    from heavytail_optax.experiments.data.decoded_images import read_images
    from heavytail_optax.experiments.data.image_folders import find_images

    Image.init()

    def read(root: pathlib.Path) -> tuple[int, ...]:
        raw = read_images(find_images(root))
        number = len(raw.train.images) + len(raw.test.images)
        return number, *raw.train.images.shape[1:]

    return read


def prepare_torchvision() -> Read:
    """The same; the images stay as they come: channels first."""
    import torch
    from torchvision import datasets
    from torchvision.transforms.functional import pil_to_tensor

    def read(root: pathlib.Path) -> tuple[int, ...]:
        parts = []
        for name in ("train", "test"):
            folder = datasets.ImageFolder(root / name, pil_to_tensor)
            loader = torch.utils.data.DataLoader(
                folder, batch_size=BATCH_SIZE, num_workers=WORKERS
            )
            parts += [images for images, _ in loader]
        number, channels, height, width = torch.cat(parts).shape
        return number, height, width, channels

    return read


PREPARE = {"ours": prepare_ours, "torchvision": prepare_torchvision}
PACKAGES = {"ours": ("pillow",), "torchvision": ("torchvision", "torch", "pillow")}


def pages() -> float:
    """MiB of this process and its workers, shared pages divided among those that do."""
    own = os.getpid()
    children = pathlib.Path(f"/proc/{own}/task/{own}/children").read_text().split()
    total = 0
    for process in (own, *children):
        try:
            lines = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
            total += int(lines.partition("\nPss:")[2].split()[0])
        except (OSError, IndexError):  # a worker that has ended
            continue
    return total / 1024


def processor_seconds() -> float:
    """Those of this process, and of its workers that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(name: str, root: pathlib.Path) -> None:
    """Prints seconds, processor seconds, MiB and the shape of what was read."""
    read, done, looks = PREPARE[name](), threading.Event(), [pages()]

    def watch() -> None:
        while not done.wait(SECONDS_BETWEEN_LOOKS):
            looks.append(pages())

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, processor = time.perf_counter(), processor_seconds()
    shape = read(root)
    wall, processor = time.perf_counter() - wall, processor_seconds() - processor
    done.set()
    watcher.join()
    versions = (f"{each} {metadata.version(each)}" for each in PACKAGES[name])
    numbers = {"wall": wall, "processor": processor, "memory": max(looks) - looks[0]}
    words = {"images": "x".join(map(str, shape)), "with": ", ".join(versions)}
    print(json.dumps({**numbers, **words}))


def in_process(
    python: str, name: str, root: pathlib.Path, cache: str
) -> dict[str, Any]:
    """What `measure` prints."""
    done = subprocess.run(
        [python, __file__, "--measure", name, "--folder", root],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": cache},
    )
    return json.loads(done.stdout)


def make_images(root: pathlib.Path, number: int) -> None:
    """Colour images of 32x32, as smooth as photographs are: ten classes."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        split = "test" if index % 6 == 0 else "train"
        path = root / split / f"class {index // 6 % 10}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=60_000, help="made if no folder")
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--without-torchvision", action="store_true")
    parser.add_argument("--measure", choices=PREPARE, help=argparse.SUPPRESS)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    if arguments.measure is not None:
        measure(arguments.measure, arguments.folder)
        return
    import result_file

    with tempfile.TemporaryDirectory() as place:
        root = arguments.folder
        if root is None:
            root = pathlib.Path(place, "images")
            make_images(root, arguments.images)
        cache = f"{place}/cache"
        in_process(sys.executable, "ours", root, cache)
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(arguments.rounds):
            shutil.rmtree(cache)
            if not arguments.without_torchvision:
                one = in_process(arguments.torch_python, "torchvision", root, cache)
                found.setdefault("torchvision", []).append(one)
            for name in ("first start", "second start"):
                one = in_process(sys.executable, "ours", root, cache)
                found.setdefault(name, []).append(one)
    rows = []
    for name, each in found.items():
        row = {"read_by": name, "images": each[0]["images"], "with": each[0]["with"]}
        for column, unit in {"wall": "s", "processor": "s", "memory": "mib"}.items():
            values = [one[column] for one in each]
            row[f"{column}_{unit}"] = f"{statistics.median(values):.2f}"
            others = [one[column] for one in found.get("torchvision", each)]
            ratios = [a / max(b, 1e-9) for a, b in zip(values, others, strict=True)]
            row[f"{column}_ratio"] = f"{statistics.median(ratios):.3f}"
            row[f"{column}_ratio_range"] = f"{min(ratios):.3f} to {max(ratios):.3f}"
        rows.append(row)
        print(row)
    result_file.write(arguments.out, rows, arguments.rounds)


if __name__ == "__main__":
    main()
