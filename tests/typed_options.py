"""Options of a command as words, where later ones take the place of earlier ones."""

from collections.abc import Sequence


def options_with(earlier: Sequence[str], *later: str) -> list[str]:
    """All of them, each once, as commands refuse an option that is given twice.

    Example:
      >>> options_with(["--steps", "6", "--methods", "sgd"], "--steps", "2")
      ['--methods', 'sgd', '--steps', '2']
    """
    kept, is_kept = [], True
    for word in earlier:
        if word.startswith("--"):
            is_kept = word not in later
        if is_kept:
            kept.append(word)
    return [*kept, *later]
