"""What each setting accepts, and the wording of the errors."""

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any


def message(name: str, accepted: str, value: Any) -> str:
    """The one wording of all errors in settings."""
    return f"The `{name}` setting must be {accepted}. Got {value!r} instead."


def check_number(name: str, value: Any) -> None:
    """Checks a setting that has a rule here.

    Args:
      name: of the setting.
      value: of the setting.

    Raises:
      TypeError: if the value is no number.
      ValueError: if it is out of range.
    """
    accepted, is_valid = RULES[name]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message(name, accepted, value))
    if not is_valid(value):
        raise ValueError(message(name, accepted, value))


def check_option(name: str, value: int, at_least: int) -> None:
    """Checks an option of a command that is a count.

    Args:
      name: of the option.
      value: of the option.
      at_least: the smallest that is accepted.

    Raises:
      ValueError: if the value is smaller.
    """
    if value < at_least:
        raise ValueError(
            f"The `{name}` option must be an integer of at least {at_least}. Got "
            f"{value!r} instead."
        )


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Checks a setting that is one of a few words.

    Args:
      name: of the setting.
      value: of the setting.
      choices: the words.

    Raises:
      ValueError: if it is none of them.
    """
    if value not in choices:
        accepted = " or ".join(repr(choice) for choice in choices)
        raise ValueError(message(name, accepted, value))


def check_truth(name: str, value: Any) -> None:
    """Checks a setting that is true or false.

    Args:
      name: of the setting.
      value: of the setting.

    Raises:
      TypeError: if it is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(message(name, "True or False", value))


def check_names(name: str, values: Any, choices: Sequence[str]) -> None:
    """Checks a setting that is a tuple of different words.

    Args:
      name: of the setting.
      values: of the setting.
      choices: the words.

    Raises:
      ValueError: if there is no word, an unknown one, or one twice.
    """
    if not isinstance(values, tuple) or not values:
        raise ValueError(message(name, "a tuple of one or more names", values))
    for value in values:
        check_choice(name, value, choices)
    if len(set(values)) < len(values):
        raise ValueError(message(name, "without repetition", values))


def _is_positive_integer(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _is_not_negative_integer(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _is_at_least_two(value: Any) -> bool:
    return isinstance(value, int) and value > 1


def _is_positive(value: Any) -> bool:
    return math.isfinite(value) and value > 0


def _is_not_negative(value: Any) -> bool:
    return math.isfinite(value) and value >= 0


def _is_image_size(value: Any) -> bool:
    return isinstance(value, int) and value > 15


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**32


RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "image_size": ("an integer of at least 16", _is_image_size),
    "clean_examples": ("an integer of at least 0", _is_not_negative_integer),
    "corrupted_examples": ("an integer of at least 0", _is_not_negative_integer),
    "test_examples": ("a positive integer", _is_positive_integer),
    "width": ("a positive number", _is_positive),
    "steps": ("a positive integer", _is_positive_integer),
    "batch_size": ("a positive integer", _is_positive_integer),
    "large_batch_size": ("a positive integer", _is_positive_integer),
    "learning_rate": ("a positive number", _is_positive),
    "alpha": ("a positive number", _is_positive),
    "inflation_scale": ("a number of at least 0", _is_not_negative),
    "inflate_above": ("a number from 0 to below 1", lambda q: 0 <= q < 1),
    "noise_scale": ("a number of at least 0", _is_not_negative),
    "max_norm": ("a positive number", _is_positive),
    "cooldown": ("a number from 0 to 1", lambda share: 0 <= share <= 1),
    "sam_radius": ("a positive number", _is_positive),
    "averaged_share": (
        "a number above 0, at most 1",
        lambda share: 0 < share <= 1,
    ),
    "sharpness_stddev": ("a positive number", _is_positive),
    "sharpness_samples": ("an integer of at least 2", _is_at_least_two),
    "seed": ("an integer from 0 to 4294967295", _is_seed),
    "eval_every": ("a positive integer", _is_positive_integer),
}
