"""Sphinx configuration: `sphinx-build -W --keep-going -b html docs docs/_build/html`."""

import pathlib
import sys

from heavytail_optax import __version__

project = "heavytail_optax"
author = "The heavytail_optax authors"
copyright = "The heavytail_optax authors, Apache License 2.0"
version = release = __version__

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_extensions"))
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "formulas",
    "inventories",
    "reference_pages",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_llm.txt",
]
exclude_patterns = ["_build", "results"]
templates_path = ["_templates"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

# Docstrings state types with shapes, dtypes and ranges. The expanded unions of
# `ArrayLike` would only push the names of the arguments out of sight.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
# Napoleon reads the words before a colon in "Returns:" as a type. Ours are prose. The
# attributes are listed like arguments, one a line.
napoleon_custom_sections = ["Returns", ("Attributes", "params_style")]
# A name in backticks in a docstring is a link if it is a public name, else code.
default_role = "py:obj"
# One argument a line, unless the signature is short.
python_maximum_signature_line_length = 40
add_module_names = False
toc_object_entries_show_parents = "hide"
viewcode_line_numbers = True

# The names of these projects are links to their pages.
linked_sites = {
    "jax": "https://docs.jax.dev/en/latest/",
    "optax": "https://optax.readthedocs.io/en/latest/",
    "python": "https://docs.python.org/3/",
}

html_math_renderer = "mathml"
# The pages of the reference and the search are the index.
html_use_index = html_domain_indices = False

# Prompts and outputs are not copied.
copybutton_exclude = ".linenos, .gp, .go"

# After the pages, from what was read for them: at the same time, all is read twice.
llms_txt_build_parallel = False
llms_txt_suffix_mode = "replace"
llms_txt_description = "Truncated heavy-tailed SGD as composable Optax transformations."
llms_txt_nested_enabled = False

html_theme = "sphinx_book_theme"
html_title = "heavytail_optax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# The side bar has a search field already.
html_theme_options = {
    "navbar_persistent": [],
    # The side bar lists what is beside a page. All names on all pages: twice the time.
    "collapse_navbar": True,
}
html_context = {"default_mode": "auto"}  # Without it the theme complains once.
