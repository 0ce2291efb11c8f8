"""Named settings, with the source of every number.

Sources: `zhu` (Zhu et al. 2019, arXiv 1803.00195, and its code uuujf/SGDNoise, from
which the paper says it took its set-up), `theta` (the PyTorch implementation's CIFAR10
notebook), `ours`. No number here is the paper's own.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from heavytail_optax.experiments.settings import Settings

PresetName = Literal["corrupted-digits"]


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


_CORRUPTED_DIGITS = Preset(
    name="corrupted-digits",
    summary="LeNet on 1,200 handwritten digits, 200 of them with random labels",
    settings=Settings(
        method=("sgd", "balanced", "truncated-heavy-tailed-sgd"),
        data="digits",
        image_size=28,
        swap_train_and_test=False,
        clean_examples=1000,
        corrupted_examples=200,
        test_examples=None,
        pixel_range="minus-one-to-one",
        augmentation="none",
        model="lenet",
        initialisation="he",
        steps=2000,
        batch_size=100,
        learning_rate=0.05,
        alpha=1.4,
        inflation_scale=0.5,
        inflate_above=0.0,
        large_batch_size=None,
        noise_scale=0.001,
        direction="elementwise",
        max_norm=0.25,
        cooldown=0.2,
        seed=0,
        eval_every=100,
    ),
    sources=MappingProxyType(
        {
            "method": "ours",
            "data": "ours: comes with scikit-learn, nothing is downloaded",
            "image_size": "zhu: the size of the FashionMNIST images",
            "swap_train_and_test": "ours",
            "clean_examples": "zhu: for corrupted FashionMNIST",
            "corrupted_examples": "zhu: for corrupted FashionMNIST",
            "test_examples": "ours",
            "pixel_range": "zhu",
            "augmentation": "zhu",
            "model": "zhu",
            "initialisation": "ours: zhu's truncated normal starts with a plateau",
            "steps": "ours",
            "batch_size": "zhu: for SVHN and CIFAR10",
            "learning_rate": "zhu: for SVHN and CIFAR10",
            "alpha": "theta",
            "inflation_scale": "theta",
            "inflate_above": "ours: the paper inflates in every step",
            "large_batch_size": "ours: the whole training set",
            "noise_scale": "ours: about one update in ten is then truncated",
            "direction": "ours",
            "max_norm": "theta",
            "cooldown": "ours",
            "seed": "ours",
            "eval_every": "ours",
        }
    ),
)

PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {"corrupted-digits": _CORRUPTED_DIGITS}
)
