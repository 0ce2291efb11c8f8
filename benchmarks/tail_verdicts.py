"""What `assess_tail` says of laws whose tail is known, and how often.

Of each law, samples of three sizes; the threshold is the default one. Of the samples that
are called heavy-tailed: how often the interval holds the index, and how often the variance
is called infinite or finite.

    python benchmarks/tail_verdicts.py --out benchmarks/results/tail_verdicts.csv
"""

import argparse
import collections

import jax
import jax.numpy as jnp
import result_file
from tail_laws import (
    BETWEEN,
    FARTHER_POWER_LAWS,
    LIGHT_TAILS,
    POWER_LAWS,
    TAILS_THAT_END,
)

from heavytail_optax.tail_index import TailAssessment, assess_tail

SIZES = (1200, 10_000, 100_000)
UP_TO_AN_END = "power law up to an end"
VERDICTS = (
    "heavy-tailed",
    UP_TO_AN_END,
    "not heavy-tailed",
    "not a power law",
    "cannot tell",
)


def row(
    law: str, index: float, size: int, found: list[TailAssessment]
) -> dict[str, str]:
    """One line of the table; numbers are of a hundred samples."""
    verdicts = collections.Counter(each.verdict for each in found)
    heavy = [each for each in found if each.verdict == "heavy-tailed"]
    held = sum(bool(x.index.lower <= index <= x.index.upper) for x in heavy)
    line = {
        "law": law,
        "tail_index": f"{index:g}",
        "draws": str(size),
        "k": str(found[0].k),
    }
    line |= {name: f"{100 * verdicts[name] / len(found):.0f}" for name in VERDICTS}
    has_index = heavy and index < float("inf")
    line["of_heavy_covered"] = f"{100 * held / len(heavy):.0f}" if has_index else ""
    ending = [each.truncated for each in found if each.verdict == UP_TO_AN_END]
    covered = sum(bool(x.lower <= index <= x.upper) for x in ending)
    has_index = ending and index < float("inf")
    line["of_ending_covered"] = (
        f"{100 * covered / len(ending):.0f}" if has_index else ""
    )
    for word in ("infinite", "finite"):
        said = sum(x.sentence.endswith(f"variance is {word}.") for x in heavy)
        line[f"variance_{word}"] = f"{100 * said / len(found):.0f}"
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    ending = {name: law[:2] for name, law in TAILS_THAT_END.items()}
    for law, (index, sample) in (
        ending | POWER_LAWS | FARTHER_POWER_LAWS | BETWEEN | LIGHT_TAILS
    ).items():
        for size in arguments.sizes:
            found = [
                assess_tail(jnp.abs(sample(jax.random.key(seed), (size,))))
                for seed in range(arguments.samples)
            ]
            line = row(law, index, size, found)
            print("  ".join(line.values()), flush=True)
            rows.append(line)
    result_file.write(arguments.out, rows, arguments.samples)


if __name__ == "__main__":
    main()
