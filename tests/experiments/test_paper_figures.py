import pytest

from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.report.paper_figures import PAPER_FIGURES

# Copied from the paper's tables once more, line by line.
FIRST_TABLE = """
corrupted-fashion-mnist accuracy 68.66 69.20 68.77 64.43 69.47 70.06
svhn                    accuracy 82.87 85.92 85.95 38.85 88.42 88.37
cifar10                 accuracy 69.39 74.42 74.38 40.50 75.69 75.87
corrupted-fashion-mnist expected 0.032 0.008 0.009 0.047 0.003 0.002
svhn                    expected 0.694 0.037 0.041 0.012 0.002 0.005
cifar10                 expected 2.043 0.050 0.039 2.046 0.024 0.037
"""
SECOND_TABLE = """
cifar10-augmented  SB+Clip 89.54 0.167 1.31e4 1.66e4
cifar10-augmented  Our_1   90.76 0.085 9e3    1.29e4
cifar10-augmented  Our_2   90.45 0.096 1e4    1.22e4
cifar100-augmented SB+Clip 56.32 0.857 2.49e4 2.75e4
cifar100-augmented Our_1   65.44 0.441 1.9e4  2.12e4
cifar100-augmented Our_2   62.99 0.479 1.98e4 2.16e4
"""
ORDER = ("LB", "SB", "SB+Clip", "SB+Noise", "Our 1", "Our 2")
MEASURES = ("expected_sharpness", "pac_bayes_sharpness", "maximal_sharpness")


def by_paper_name():
    return {
        (preset, METHODS[method].paper_name): figures
        for (preset, method), figures in PAPER_FIGURES.items()
    }


def test_first_table():
    figures = by_paper_name()
    for line in FIRST_TABLE.split("\n")[1:-1]:
        preset, quantity, *numbers = line.split()
        for paper_name, number in zip(ORDER, numbers, strict=True):
            found = figures[preset, paper_name]
            assert set(found) == {"test_accuracy", "expected_sharpness"}
            if quantity == "accuracy":
                assert f"{100 * found['test_accuracy']:.2f}" == number
            else:
                assert found["expected_sharpness"] == float(number)


def test_second_table():
    figures = by_paper_name()
    for line in SECOND_TABLE.split("\n")[1:-1]:
        preset, paper_name, accuracy, *numbers = line.split()
        found = figures[preset, paper_name.replace("_", " ")]
        assert f"{100 * found['test_accuracy']:.2f}" == accuracy
        assert [found[each] for each in MEASURES] == list(map(float, numbers))


def test_nothing_else_is_called_the_papers():
    assert len(PAPER_FIGURES) == 3 * 6 + 2 * 3
    assert all(METHODS[method].paper_name for _, method in PAPER_FIGURES)
    assert all(preset != "corrupted-digits" for preset, _ in PAPER_FIGURES)


def test_figures_cannot_be_changed():
    with pytest.raises(TypeError):
        PAPER_FIGURES["svhn", "sgd"] = None
    with pytest.raises(TypeError):
        PAPER_FIGURES["svhn", "sgd"]["expected_sharpness"] = 0.0
