"""The measures of flatness by name: every `Measure` in the files of this folder."""

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

from ...settings import TableMeasure
from ..measure import Measure

_FILES = [
    importlib.import_module(f"{__name__}.{file.name}")
    for file in pkgutil.iter_modules(__path__)
]
_FOUND = {
    value.name: value
    for file in _FILES
    for value in vars(file).values()
    if isinstance(value, Measure)
}
# Those of the paper's tables first, all others in the order of the files.
MEASURES: Mapping[str, Measure] = MappingProxyType(
    {name: _FOUND[name] for name in (*get_args(TableMeasure), *_FOUND)}
)
MEASURE_NAMES = tuple(MEASURES)
OF_LAYERS = tuple(name for name, each in MEASURES.items() if each.is_of_layers)
SUMMARIES = {name: measure.summary for name, measure in MEASURES.items()}
SCALARS = {name: measure.scalars for name, measure in MEASURES.items()}

if TYPE_CHECKING:
    MeasureName = str
else:  # The command line lists the names and refuses all others.
    MeasureName = Literal[MEASURE_NAMES]
