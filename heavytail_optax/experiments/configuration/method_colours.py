"""The colour of each method, the same in every picture."""

from collections.abc import Mapping
from types import MappingProxyType

from heavytail_optax.experiments.configuration.methods import MethodName

# Okabe and Ito's colours, which remain distinct for colour-blind readers, and a grey.
METHOD_COLOURS: Mapping[MethodName, str] = MappingProxyType(
    {
        "sgd-large-batch": "#000000",
        "sgd": "#0072B2",
        "sgd-truncated": "#56B4E9",
        "inflated": "#E69F00",
        "independent": "#CC79A7",
        "shared": "#8C8C8C",
        "balanced-untruncated": "#F0C808",
        "balanced": "#D55E00",
        "truncated-heavy-tailed-sgd": "#009E73",
        "sam": "#5B2A86",
        "sgd-averaged": "#7A4B1E",
    }
)
