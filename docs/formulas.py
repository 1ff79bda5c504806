"""Formulas as MathML, which browsers draw by themselves: a page asks nothing of the network."""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def _write(writer, node, display):
    writer.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer(
        "mathml",
        (lambda writer, node: _write(writer, node, "inline"), None),
        (lambda writer, node: _write(writer, node, "block"), None),
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
