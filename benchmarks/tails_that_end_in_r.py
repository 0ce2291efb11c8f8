"""Tails that end, beside the R packages ReIns and evir, of the same draws.

Of each law, samples of 10,000 draws, and their k largest. Both packages are read from
their sources, of which no other package is needed, because neither is part of Debian:

    git clone https://github.com/TReynkens/ReIns && git clone https://github.com/cran/evir
    python benchmarks/tails_that_end_in_r.py --reins ReIns/R --evir evir/R --out benchmarks/results/tails_that_end_in_r.csv

`index` and `end` are medians, the end over the true one; their spread is half of what
holds the middle 68 % of the samples. ReIns has no intervals of these; evir's are those of
Hill's estimate and of the shape of the generalised Pareto fit, by their standard errors.
"""

import argparse
import math
import pathlib
import subprocess
import tempfile

import jax
import numpy as np
import result_file
from tail_laws import LIGHT_TAILS, POWER_LAWS, TAILS_THAT_END
from tails_that_end import FIXED_K, SIZE, beirlant, percent

from heavytail_optax import tail_index

PROGRAM = """
given <- commandArgs(trailingOnly = TRUE)
for (name in c("Raux", "Hill", "Truncation")) source(file.path(given[1], paste0(name, ".R")))
for (name in c("eda", "pot")) source(file.path(given[2], paste0(name, ".R")))
source(file.path(given[2], "second.R"))
pdf(NULL)
top <- as.matrix(read.table(given[3]))
k <- ncol(top) - 1
found <- t(apply(top, 1, function(x) {
  gamma <- trHill(x)$gamma
  end <- trEndpoint(x, gamma = gamma)$Tk[k]
  hill <- hill(x, start = k, end = k, option = "xi")$y
  fit <- tryCatch(gpd(x, threshold = min(x)), error = function(e) NULL)
  shape <- if (is.null(fit)) c(NA, NA) else c(fit$par.ests[1], fit$par.ses[1])
  c(gamma[k], end, trTest(x, plot = FALSE)$Pval[k], hill, shape)
}))
write.table(format(found, digits = 12), given[4], quote = FALSE,
            row.names = FALSE, col.names = FALSE)
"""
OF_R = "gamma", "end", "p_value", "hill", "shape", "shape_error"


def in_r(top: np.ndarray, reins: pathlib.Path, evir: pathlib.Path) -> np.ndarray:
    """What R finds: one row a sample, the columns of `OF_R`."""
    with tempfile.TemporaryDirectory() as folder:
        program, draws, found = (
            pathlib.Path(folder, name) for name in ("program.R", "draws", "found")
        )
        program.write_text(PROGRAM)
        np.savetxt(draws, top, fmt="%.17g")
        command = ["Rscript", program, reins, evir, draws, found]
        subprocess.run(command, check=True, capture_output=True)
        return np.genfromtxt(found, missing_values="NA", ndmin=2)


def middle(values: np.ndarray) -> tuple[str, str]:
    """The median, and half of what holds the middle 68 %."""
    low, median, high = np.nanpercentile(values, (16.0, 50.0, 84.0))
    return f"{median:.3f}", f"{0.5 * (high - low):.3f}"


def row(draws: np.ndarray, index: float, end: float, k: int, of_r) -> dict[str, str]:
    """One line of the table."""
    top = -np.sort(-draws, axis=1)[:, : k + 1].astype(np.float64)
    theirs = dict(zip(OF_R, of_r(top).T, strict=True))
    ours = tail_index.truncated_pareto(draws, k)
    line = {"k": str(k)}
    for name, values in (
        ("index", np.asarray(ours.estimate)),
        ("index_reins", 1.0 / theirs["gamma"]),
        ("end", np.asarray(ours.end)),
        ("end_reins", theirs["end"]),
    ):
        unit = end if name.startswith("end") else 1.0
        is_known = index < math.inf and unit < math.inf
        pair = middle(values / unit) if is_known else ("", "")
        line |= dict(zip((name, f"{name}_spread"), pair, strict=True))
    line["end_said"] = percent(ours.p_value < 0.01)
    line["end_said_reins"] = percent(theirs["p_value"] < 0.01)
    apart = np.max(np.abs(beirlant(draws, k) - theirs["p_value"]))
    line["most_apart_from_tr_test"] = f"{apart:.1e}"
    true = 1.0 / index
    hill = tail_index.hill(draws, k)
    fit = tail_index.generalised_pareto(draws, k)
    around = theirs["shape"] - true
    covered = {
        "hill_covered": (hill.lower <= index) & (index <= hill.upper),
        "hill_covered_evir": np.abs(theirs["hill"] - true)
        <= 1.96 * theirs["hill"] / k**0.5,
        "pareto_fit_covered": (fit.lower <= index) & (index <= fit.upper),
        "pareto_fit_covered_evir": np.abs(around) <= 1.96 * theirs["shape_error"],
    }
    for name, values in covered.items():
        line[name] = percent(values) if index < math.inf else ""
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reins", type=pathlib.Path, required=True)
    parser.add_argument("--evir", type=pathlib.Path, required=True)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()

    def of_r(top: np.ndarray) -> np.ndarray:
        return in_r(top, arguments.reins, arguments.evir)

    endless = {
        name: (*law, math.inf) for name, law in (POWER_LAWS | LIGHT_TAILS).items()
    }
    rows = []
    for law, (index, sample, end) in (TAILS_THAT_END | endless).items():
        shape = arguments.samples, SIZE
        draw = jax.jit(sample, static_argnums=1)
        draws = np.abs(np.asarray(draw(jax.random.key(1), shape)))
        for k in FIXED_K:
            line = {"law": law, "tail_index": f"{index:g}"}
            rows.append(line | row(draws, index, end, k, of_r))
            print("  ".join(rows[-1].values()), flush=True)
    result_file.write(arguments.out, rows, arguments.samples)


if __name__ == "__main__":
    main()
