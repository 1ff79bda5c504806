"""Sphinx: the pages of the norms and of the API are written from the docstrings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from pages import write_pages

import graphnorms

project = "graphnorms"
copyright = "2026, the graphnorms authors"
version = release = graphnorms.__version__
extensions = ["myst_nb", "formulas"]
nb_execution_mode = "off"
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "graphnorms"
html_static_path = ["_static"]
html_css_files = ["formulas.css"]
exclude_patterns = ["_build", "jupyter_execute"]
html_show_sphinx = False
html_copy_source = False
suppress_warnings = [
    "myst.header",
    "misc.highlighting_failure",  # what a terminal shows is no shell, and tables have no lexer
]

write_pages(Path(__file__).parent / "norms")
