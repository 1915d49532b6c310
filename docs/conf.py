"""The documentation site: `make docs` builds it into site/."""

import sys
from pathlib import Path

from sagan import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "sagan"
author = "the sagan authors"
version = release = __version__
extensions = ["myst_nb", "sphinx_design", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "flags", "root_files"]
exclude_patterns = ["_ext"]

html_theme = "furo"
html_title = "sagan"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
smartquotes = False  # they make a dash of the -- of a flag
default_role = "py:obj"  # in docstrings `name` may be a name or a command
pygments_style = "friendly"

myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_display_short_literal_types = True
napoleon_use_rtype = False

linkcheck_timeout = 20
linkcheck_workers = 2
