"""Named settings, with the source of every number.

Sources: `slides` (the talk of the paper at ICLR 2022), `zhu` (Zhu et al. 2019, arXiv
1803.00195, and its code uuujf/SGDNoise, from which the paper says it took its set-up),
`theta` (the PyTorch implementation's CIFAR10 notebook), `foret` (Foret et al. 2021, arXiv
2010.01412), `izmailov` (Izmailov et al. 2018, arXiv 1803.05407), `ours`. What is
reconstructed is not the paper's: no number here but those marked `slides` is.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from heavytail_optax.experiments.configuration.settings import Settings

PresetName = Literal[
    "corrupted-digits",
    "corrupted-digits-short",
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
    settings: Settings
    sources: Mapping[str, str]
    """One source for each field of `settings`, with a remark where one is needed."""

    def sources_of(self, settings: Settings) -> dict[str, str]:
        """The source of each value, `user` where it is not the preset's."""
        return {
            name: source
            if getattr(settings, name) == getattr(self.settings, name)
            else "user"
            for name, source in self.sources.items()
        }


def _variant(
    base: Preset, name: PresetName, summary: str, **changes: tuple[Any, str]
) -> Preset:
    """The base with other settings, each given as (value, source)."""
    values = {setting: value for setting, (value, _) in changes.items()}
    sources = {setting: source for setting, (_, source) in changes.items()}
    return Preset(
        name,
        summary,
        dataclasses.replace(base.settings, **values),
        MappingProxyType({**base.sources, **sources}),
    )


_PAPER_METHODS = (
    "sgd-large-batch",
    "sgd",
    "sgd-truncated",
    "inflated",
    "independent",
    "shared",
)

_CORRUPTED_DIGITS = Preset(
    name="corrupted-digits",
    summary="LeNet on 1,200 handwritten digits, 200 of them with random labels",
    settings=Settings(
        methods=("sgd", "balanced", "truncated-heavy-tailed-sgd"),
        data="digits",
        image_size=28,
        pixel_range="minus-one-to-one",
        swap_train_and_test=False,
        clean_examples=1000,
        corrupted_examples=200,
        test_examples=None,
        augmentation="none",
        model="lenet",
        width=1.0,
        initialisation="he",
        steps=2000,
        batch_size=100,
        learning_rate=0.05,
        learning_rate_schedule="constant",
        alpha=1.4,
        inflation_scale=0.5,
        inflation_law="pareto",
        inflate_above=0.0,
        large_batch_size=None,
        noise_scale=0.001,
        direction="elementwise",
        max_norm=0.25,
        cooldown=0.2,
        sam_radius=0.05,
        averaged_share=0.25,
        sharpness_stddev=0.01,
        sharpness_samples=100,
        measures=("expected", "pac-bayes", "maximal"),
        seed=0,
        eval_every=100,
    ),
    sources=MappingProxyType(
        {
            "methods": "ours",
            "data": "ours: comes with scikit-learn, nothing is downloaded",
            "image_size": "zhu: the size of the FashionMNIST images",
            "pixel_range": "zhu: for corrupted FashionMNIST",
            "swap_train_and_test": "ours: the digits are one file",
            "clean_examples": "zhu: for corrupted FashionMNIST",
            "corrupted_examples": "zhu: for corrupted FashionMNIST",
            "test_examples": "ours: all that is left",
            "augmentation": "zhu",
            "model": "zhu",
            "width": "zhu",
            "initialisation": "ours: zhu's truncated normal starts with a plateau",
            "steps": "ours",
            "batch_size": "zhu: for SVHN and CIFAR10",
            "learning_rate": "zhu: for SVHN and CIFAR10",
            "learning_rate_schedule": "zhu",
            "alpha": "theta",
            "inflation_scale": "theta",
            "inflation_law": "ours: theta draws Lomax factors",
            "inflate_above": "ours: the paper inflates in every step",
            "large_batch_size": "ours: the whole training set",
            "noise_scale": "ours: about one update in ten is then truncated",
            "direction": "ours",
            "max_norm": "theta",
            "cooldown": "ours",
            "sam_radius": "foret: their default",
            "averaged_share": "izmailov: from three quarters of the budget on",
            "sharpness_stddev": "zhu",
            "sharpness_samples": "ours: zhu takes 1,000",
            "measures": "ours: those of either table of the paper",
            "seed": "ours",
            "eval_every": "ours",
        }
    ),
)

_CORRUPTED_DIGITS_SHORT = _variant(
    _CORRUPTED_DIGITS,
    "corrupted-digits-short",
    "the same in a few minutes: 1,200 steps, batches of 50, a large batch of 400",
    methods=((*_PAPER_METHODS, "balanced"), "slides: but for balanced"),
    steps=(1200, "ours: minutes for all methods on two cores"),
    batch_size=(50, "ours: minutes for all methods on two cores"),
    large_batch_size=(400, "ours: minutes for all methods on two cores"),
    measures=(("expected",), "ours: minutes for all methods on two cores"),
)

_CORRUPTED_FASHION_MNIST = _variant(
    _CORRUPTED_DIGITS,
    "corrupted-fashion-mnist",
    "LeNet on 1,200 images of clothes, 200 of them with random labels",
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
    eval_every=(500, "ours"),
)

_SVHN = _variant(
    _CORRUPTED_DIGITS,
    "svhn",
    "VGG11 on 25,000 house numbers",
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
    eval_every=(500, "ours"),
)

_CIFAR10 = _variant(
    _SVHN,
    "cifar10",
    "VGG11 on the 50,000 training images of CIFAR10",
    data=("cifar10", "slides"),
    swap_train_and_test=(False, "zhu"),
    clean_examples=(50_000, "zhu"),
    test_examples=(None, "zhu: all 10,000"),
    steps=(30_000, "theta"),
    large_batch_size=(256, "theta"),
)

_CIFAR10_AUGMENTED = _variant(
    _CIFAR10,
    "cifar10-augmented",
    "the same with data augmentation and a learning-rate schedule",
    methods=(
        ("sgd-truncated", "independent", "shared", "balanced"),
        "slides: but for balanced",
    ),
    augmentation=("crop-flip", "ours: the slides say data augmentation, not which"),
    learning_rate_schedule=("cosine", "ours: the slides do not say which"),
)

_CIFAR100_AUGMENTED = _variant(
    _CIFAR10_AUGMENTED,
    "cifar100-augmented",
    "VGG16 on CIFAR100 with data augmentation and a learning-rate schedule",
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
            _CORRUPTED_FASHION_MNIST,
            _SVHN,
            _CIFAR10,
            _CIFAR10_AUGMENTED,
            _CIFAR100_AUGMENTED,
        )
    }
)
