"""Formulas as MathML, which browsers draw by themselves: a page asks nothing of the network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

_TAG = re.compile(r"\\tag\{([^}]*)\}")


def _inline(writer, node):
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(writer, node):
    """Write a displayed formula; its number stands at the right edge, as in print."""
    formula = convert(_TAG.sub("", node.astext()), display="block")
    number = _TAG.search(node.astext())
    label = f'<a class="number" id="equation-{number[1]}">({number[1]})</a>' if number else ""
    writer.body.append(f'<div class="formula"><div class="wide">{formula}</div>{label}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
