"""Folders of small images, one for each class, in all formats that are read."""

import io

import numpy as np
from PIL import Image

SUFFIXES = (".png", ".JPG", ".jpeg", ".WebP", ".bmp", ".PNG")
FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
}


def content_of(image, suffix=".png", **options):
    """The bytes of a file with this Pillow image."""
    buffer = io.BytesIO()
    image.save(buffer, FORMATS[suffix.lower()], **options)
    return buffer.getvalue()


def random_image(rng, size, mode="RGB"):
    """A Pillow image of random pixels; `size` is (width, height)."""
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    return Image.fromarray(rng.integers(0, 256, (*size[::-1], *channels), np.uint8))


def write_image(path, image, **options):
    """Writes a Pillow image, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content_of(image, path.suffix, **options))
    return path


def write_classes(root, classes=("ant", "bee", "cow"), number=4, sizes=((20, 20),)):
    """So many random images of each class, whose formats and sizes take turns."""
    rng = np.random.default_rng(0)
    for name in classes:
        for index in range(number):
            suffix, size = SUFFIXES[index % len(SUFFIXES)], sizes[index % len(sizes)]
            image = random_image(rng, size, ("RGB", "L")[index % 3 == 2])
            write_image(root / name / f"image {index}{suffix}", image)


def write_folder(root, **options):
    """A folder for training and one for testing; the folder that they are in."""
    write_classes(root / "train", **options)
    write_classes(root / "test", **{**options, "number": 2})
    return root
