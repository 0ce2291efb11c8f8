"""The names of the measures of flatness, with what each one is."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

TableMeasure = Literal["expected", "pac-bayes", "maximal"]
"""Those of the paper's tables."""

MeasureName = Literal[
    "expected",
    "pac-bayes",
    "maximal",
    "eigenvalues",
    "trace",
    "density",
    "line",
    "escape",
]

TABLE_MEASURES: tuple[TableMeasure, ...] = get_args(TableMeasure)
MEASURE_NAMES: tuple[MeasureName, ...] = get_args(MeasureName)

SUMMARIES: Mapping[MeasureName, str] = MappingProxyType(
    {
        "expected": "mean change of the loss under normal noise on the weights",
        "pac-bayes": "1/sigma^2 of the most noise at which accuracy falls by --target",
        "maximal": "1/alpha^2 of the largest ball in which it falls by no more",
        "eigenvalues": "the largest eigenvalues of the Hessian",
        "trace": "the trace of the Hessian",
        "density": "the density of the eigenvalues of the Hessian",
        "line": "the loss along the top eigenvector and along a random direction",
        "escape": "how likely jumps of the norm b of the truncation leave the minimum",
    }
)

SCALARS: Mapping[MeasureName, tuple[str, ...]] = MappingProxyType(
    {
        "expected": ("expected_sharpness",),
        "pac-bayes": ("pac_bayes_sharpness",),
        "maximal": ("maximal_sharpness",),
        "eigenvalues": ("top_eigenvalue",),
        "trace": ("hessian_trace",),
        "density": (),
        "line": (),
        "escape": ("escape_noise", "escape_eigenvector", "escape_isotropic"),
    }
)
"""What each one is called in tables; all are larger where the minimum is sharper."""
