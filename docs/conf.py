"""Sphinx: `make docs` builds the site with warnings as errors, and runs its examples."""

import pathlib
import sys

import jax

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import linalgx

# the page on sharding has two devices; set before JAX starts
jax.config.update("jax_num_cpu_devices", 2)

project = "linalgx"
author = "the linalgx founders"
copyright = f"2026, {author}"
release = version = linalgx.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "myst_nb",
    "generated",
]
exclude_patterns = ["_build", "inventories", "**.ipynb_checkpoints"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
nitpicky = True  # a name that leads nowhere is a warning, and a warning is an error

# --- API reference

autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
# as sections of text: Napoleon would take what stands before a colon in "Returns" for a type
napoleon_custom_sections = ["Returns", "On failure", "Derivatives", "Source"]
nitpick_ignore = [("py:class", name) for name in ("ArrayLike", "DTypeLike", "Any", "Sequence", "jax.lax.PrecisionLike")]

# the inventories lie here, in text, and hold the names that we refer to: the build needs no network
intersphinx_mapping = {
    "jax": ("https://docs.jax.dev/en/latest/", "inventories/jax.txt"),
    "numpy": ("https://numpy.org/doc/stable/", "inventories/numpy.txt"),
}

# --- pages

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the tests run the notebooks; the gallery shows what they stored
nb_merge_streams = True
doctest_global_setup = """
import jax, jax.numpy as jnp, numpy as np, linalgx
np.set_printoptions(precision=4, suppress=True)
"""

# --- HTML

html_theme = "furo"
html_title = f"linalgx {release}"
html_static_path = ["_static"]
html_css_files = ["linalgx.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
