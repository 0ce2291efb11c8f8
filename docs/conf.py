"""Sphinx configuration: `sphinx-build -W --keep-going -b html docs docs/_build/html`."""

import os

from heavytail_optax import __version__

project = "heavytail_optax"
author = "The heavytail_optax authors"
copyright = "The heavytail_optax authors, Apache License 2.0"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "myst_nb",
]
exclude_patterns = ["_build", "results"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "auto"
nb_execution_raise_on_error = True

# Docstrings state types with shapes, dtypes and ranges. The expanded unions of
# `ArrayLike` would only push the names of the arguments out of sight.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
# Napoleon reads the words before a colon in "Returns:" as a type. Ours are prose.
napoleon_custom_sections = ["Returns"]
napoleon_attr_annotations = False  # The text of an attribute says its shape and dtype.
default_role = "code"

# Links to other projects need a network, and a build must not depend on one.
intersphinx_mapping = (
    {
        "jax": ("https://docs.jax.dev/en/latest/", None),
        "optax": ("https://optax.readthedocs.io/en/latest/", None),
        "python": ("https://docs.python.org/3/", None),
    }
    if os.environ.get("DOCS_INTERSPHINX")
    else {}
)

html_theme = "sphinx_book_theme"
html_title = "heavytail_optax"
html_static_path = ["_static"]
html_css_files = ["phone.css"]
# The side bar has a search field already.
html_theme_options = {"navbar_persistent": []}
html_context = {"default_mode": "auto"}  # Without it the theme complains once.
