"""Sphinx's settings for the site of the lessons, which `make site` builds: see scripts/site.py."""

from __future__ import annotations

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

project = "A workbench for query caches"
html_title = project
language = "en"
extensions = ["myst_nb"]
exclude_patterns = [".doctrees"]

nb_execution_mode = "off"  # what is committed is shown
nb_merge_streams = True
highlight_language = "text"  # of a block that names none
smartquotes = False
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 3
# Lessons are CommonMark with formulas: nothing in them is meant as one of MyST's own marks.
myst_disable_syntax = ["myst_role", "myst_line_comment", "myst_target", "myst_block_break"]

html_theme = "furo"
templates_path = ["templates"]
html_use_index = False
html_static_path = ["static"]
# The marks of tables, in words that contrast with the page in both themes.
html_theme_options = {
    "light_css_variables": {"site-good": "#00684c", "site-bad": "#a84300"},
    "dark_css_variables": {"site-good": "#3fcf9f", "site-bad": "#ff9d66"},
}
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # it fetches pages, which a browser refuses for file://
html_show_copyright = False
html_math_renderer = "mathml"  # browsers draw it by themselves; MathJax would come from elsewhere
pygments_style = "a11y-light"
pygments_dark_style = "a11y-dark"


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f"<div class='formula'>{tex2mathml(node.astext(), as_block=True)}</div>")
    raise nodes.SkipNode


def _name_no_empty_header(app: Sphinx, doctree: nodes.document) -> None:
    """Make the empty cells of a table's head plain cells: an empty header names nothing."""
    for head in doctree.findall(nodes.thead):
        for entry in list(head.findall(nodes.entry)):
            if not entry.astext().strip():
                entry.replace_self(nodes.raw("", "<td></td>", format="html"))


def setup(app: Sphinx) -> None:
    """Draw formulas as MathML, and mend tables."""
    app.connect("doctree-read", _name_no_empty_header)
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
