"""Named settings, with the source of every number that is not the default.

Sources: `slides` (the talk of the paper at ICLR 2022), `zhu` (Zhu et al. 2019, arXiv
1803.00195, and its code uuujf/SGDNoise, from which the paper says it took its set-up),
`theta` (the PyTorch implementation's CIFAR10 notebook), `foret` (Foret et al. 2021, arXiv
2010.01412), `izmailov` (Izmailov et al. 2018, arXiv 1803.05407), `becker` (Becker et al.
2024, arXiv 2401.12033), `li` (Li et al. 2024, CVPR), `kalra` (Kalra et al. 2026, arXiv
2601.16979), `ours`. What is reconstructed is not the paper's: no number here but those
marked `slides` is.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from .flat_settings import default_settings, flat, from_flat
from .methods import MethodName
from .settings import Settings

PresetName = Literal[
    "corrupted-digits",
    "corrupted-digits-short",
    "folder",
    "corrupted-fashion-mnist",
    "svhn",
    "cifar10",
    "cifar10-augmented",
    "cifar100-augmented",
]


@dataclasses.dataclass(frozen=True)
class Preset:
    """Settings under a name, and where each of them comes from."""

    name: PresetName
    summary: str
    methods: tuple[MethodName, ...]
    """What is compared; `settings` has the first of them."""
    settings: Settings
    sources: Mapping[str, str]
    """One source for each setting by its name, that of `methods` under "method"."""

    def sources_of(self, settings: Settings) -> dict[str, str]:
        """The source of each value, `user` where it is not the preset's."""
        own = flat(self.settings)
        if settings.method.method in self.methods:
            own["method"] = settings.method.method
        return {
            name: self.sources[name] if value == own[name] else "user"
            for name, value in flat(settings).items()
        }


def _preset(
    name: PresetName, summary: str, base: Preset | None = None, **given: tuple[Any, str]
) -> Preset:
    """Each setting as (value, source); all others are those of `base`, or the defaults."""
    pairs = {**default_settings(), **given}
    if base is not None:
        others = {k: (v, base.sources[k]) for k, v in flat(base.settings).items()}
        pairs = {**others, "methods": (base.methods, base.sources["method"]), **given}
    methods, source = pairs.pop("methods")
    pairs["method"] = methods[0], source
    settings = from_flat({setting: value for setting, (value, _) in pairs.items()})
    sources = {setting: source for setting, (_, source) in pairs.items()}
    return Preset(name, summary, methods, settings, MappingProxyType(sources))


_PAPER_METHODS: tuple[MethodName, ...] = (
    "sgd-large-batch",
    "sgd",
    "sgd-truncated",
    "inflated",
    "independent",
    "shared",
)

_CORRUPTED_DIGITS = _preset(
    "corrupted-digits",
    "LeNet on 1,200 handwritten digits, 200 of them with random labels",
    methods=(("sgd", "balanced", "truncated-heavy-tailed-sgd"), "ours"),
)

_CORRUPTED_DIGITS_SHORT = _preset(
    "corrupted-digits-short",
    "the same in a few minutes: 1,200 steps, batches of 50, a large batch of 200",
    _CORRUPTED_DIGITS,
    # Each method with a large batch takes as long as all others together: those that
    # can be left out are.
    methods=(
        ("sgd", "sgd-truncated", "independent", "balanced-untruncated", "balanced"),
        "ours: of the slides, the three that show the effect",
    ),
    steps=(1200, "ours: minutes for all methods on two cores"),
    batch_size=(50, "ours: minutes for all methods on two cores"),
    large_batch_size=(200, "ours: minutes for all methods on two cores"),
    measures=(("expected",), "ours: minutes for all methods on two cores"),
)

_FOLDER = _preset(
    "folder",
    "LeNet on your own images, those in --data-dir",
    _CORRUPTED_DIGITS,
    data=("folder", "ours"),
    image_size=(None, "ours: the size of the images"),
    clean_examples=(None, "ours: all training images"),
    corrupted_examples=(0, "ours"),
)

_CORRUPTED_FASHION_MNIST = _preset(
    "corrupted-fashion-mnist",
    "LeNet on 1,200 images of clothes, 200 of them with random labels",
    _CORRUPTED_DIGITS,
    methods=(
        (*_PAPER_METHODS, "balanced-untruncated", "balanced"),
        "slides: but for balanced",
    ),
    data=("fashion-mnist", "slides"),
    image_size=(28, "zhu"),
    pixel_range=("minus-one-to-one", "zhu"),
    swap_train_and_test=(False, "zhu"),
    clean_examples=(1000, "zhu"),
    corrupted_examples=(200, "zhu"),
    test_examples=(None, "zhu: all 10,000"),
    model=("lenet", "slides"),
    steps=(10_000, "ours"),
    batch_size=(100, "ours: zhu's of SVHN and CIFAR10; 20 in zhu's for FashionMNIST"),
    learning_rate=(
        0.05,
        "ours: zhu's of SVHN and CIFAR10; 0.07 in zhu's for FashionMNIST",
    ),
)

_SVHN = _preset(
    "svhn",
    "VGG11 on 25,000 house numbers",
    _CORRUPTED_DIGITS,
    methods=((*_PAPER_METHODS, "balanced"), "slides: but for balanced"),
    data=("svhn", "slides"),
    image_size=(32, "zhu"),
    pixel_range=("zero-to-one", "zhu"),
    swap_train_and_test=(True, "zhu"),
    clean_examples=(25_000, "zhu"),
    corrupted_examples=(0, "zhu"),
    test_examples=(70_000, "zhu"),
    model=("vgg11", "slides"),
    initialisation=("fan-out", "zhu: for the convolutions"),
    steps=(30_000, "theta: for CIFAR10"),
    batch_size=(100, "zhu"),
    learning_rate=(0.05, "zhu"),
    large_batch_size=(256, "theta: for CIFAR10"),
    cooldown=(1 / 6, "theta: the last 5,000 steps"),
)

_CIFAR10 = _preset(
    "cifar10",
    "VGG11 on the 50,000 training images of CIFAR10",
    _SVHN,
    data=("cifar10", "slides"),
    swap_train_and_test=(False, "zhu"),
    clean_examples=(50_000, "zhu"),
    test_examples=(None, "zhu: all 10,000"),
    steps=(30_000, "theta"),
    large_batch_size=(256, "theta"),
)

_CIFAR10_AUGMENTED = _preset(
    "cifar10-augmented",
    "the same with data augmentation and a learning-rate schedule",
    _CIFAR10,
    methods=(
        ("sgd-truncated", "independent", "shared", "balanced"),
        "slides: but for balanced",
    ),
    augmentation=("crop-flip", "ours: the slides say data augmentation, not which"),
    learning_rate_schedule=("cosine", "ours: the slides do not say which"),
)

_CIFAR100_AUGMENTED = _preset(
    "cifar100-augmented",
    "VGG16 on CIFAR100 with data augmentation and a learning-rate schedule",
    _CIFAR10_AUGMENTED,
    data=("cifar100", "slides"),
    model=("vgg16", "slides"),
    steps=(30_000, "ours: theta's of CIFAR10"),
    batch_size=(100, "ours: zhu's of CIFAR10"),
    learning_rate=(0.05, "ours: zhu's of CIFAR10"),
    large_batch_size=(256, "ours: theta's of CIFAR10"),
)

PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            _CORRUPTED_DIGITS,
            _CORRUPTED_DIGITS_SHORT,
            _FOLDER,
            _CORRUPTED_FASHION_MNIST,
            _SVHN,
            _CIFAR10,
            _CIFAR10_AUGMENTED,
            _CIFAR100_AUGMENTED,
        )
    }
)
