"""Pictures of what shares a statistic: the batch as a cube of graphs × nodes × channels.

Graphs stand behind each other, nodes below each other, channels side by side. The entries that
share one mean (or one second moment) are coloured.
"""

from collections.abc import Callable
from dataclasses import dataclass

GRAPHS, NODES, CHANNELS = 3, 5, 6
_SIDE = 26.0
_DEPTH = (13.0, -11.0)  # a step to the graph behind
_FACES = {"front": 1.0, "top": 0.72, "side": 0.5}  # how bright

Shared = Callable[[int, int, int], bool]
"""Whether the entry of (graph, node, channel) shares the statistic that is shown."""

CELLS: dict[str, Shared] = {
    "batch": lambda graph, node, channel: channel == CHANNELS - 1,
    "batch-channels": lambda graph, node, channel: True,
    "graph": lambda graph, node, channel: graph == 0 and channel == CHANNELS - 1,
    "graph-channels": lambda graph, node, channel: graph == 0,
    "graph-groups": lambda graph, node, channel: graph == 0 and channel >= CHANNELS // 2,
    "node": lambda graph, node, channel: graph == 0 and node == 0,
    "node-groups": lambda graph, node, channel: (
        graph == 0 and node == 0 and channel >= CHANNELS // 2
    ),
    "type": lambda graph, node, channel: node in (0, 3) and channel == CHANNELS - 1,
}
"""The entries that share a statistic, by the name of the domain."""


@dataclass(frozen=True)
class Face:
    """One square of the surface.

    Args:
        corners: Its corners, as points of the picture.
        kind: `"front"`, `"top"` or `"side"`.
        shared: Whether it is coloured.
    """

    corners: tuple[tuple[float, float], ...]
    kind: str
    shared: bool


def cube(domain: str, caption: str) -> str:
    """Return the picture of a domain as SVG, with a caption below it.

    Raises:
        KeyError: There is no such domain.
    """
    shared = CELLS[domain]
    faces = [
        *(_front(node, channel, shared) for node in range(NODES) for channel in range(CHANNELS)),
        *(_top(graph, channel, shared) for graph in range(GRAPHS) for channel in range(CHANNELS)),
        *(_side(graph, node, shared) for graph in range(GRAPHS) for node in range(NODES)),
    ]
    depth = GRAPHS * abs(_DEPTH[1])
    left, top = 34.0, 12.0 + depth
    width = left + CHANNELS * _SIDE + GRAPHS * _DEPTH[0] + 46
    height = top + NODES * _SIDE + 44
    bottom, right = NODES * _SIDE, CHANNELS * _SIDE
    words = (
        _text(right / 2, bottom + 16, "channels →"),
        _text(-8, bottom / 2, "nodes →", turn=90),
        _text(right + GRAPHS * _DEPTH[0] + 6, bottom - depth + 4, "graphs", anchor="start"),
        f'<text x="{right / 2:.0f}" y="{bottom + 36:.0f}" class="caption">{caption}</text>',
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" role="img" aria-label="{caption}">'
        "<style>text{font:11px sans-serif;fill:#777;text-anchor:middle}"
        ".caption{font-size:12px;fill:#555}path{stroke:#8886;stroke-width:.8}"
        "@media(prefers-color-scheme:dark){text{fill:#aaa}.caption{fill:#bbb}}</style>"
        f'<g transform="translate({left:.0f} {top:.0f})">'
        + "".join(_path(face) for face in faces)
        + "".join(words)
        + "</g></svg>"
    )


def _front(node: int, channel: int, shared: Shared) -> Face:
    x, y = channel * _SIDE, node * _SIDE
    corners = ((x, y), (x + _SIDE, y), (x + _SIDE, y + _SIDE), (x, y + _SIDE))
    return Face(corners, "front", shared(0, node, channel))


def _top(graph: int, channel: int, shared: Shared) -> Face:
    dx, dy = _DEPTH
    x, y = channel * _SIDE + graph * dx, graph * dy
    corners = ((x, y), (x + _SIDE, y), (x + _SIDE + dx, y + dy), (x + dx, y + dy))
    return Face(corners, "top", shared(graph, 0, channel))


def _side(graph: int, node: int, shared: Shared) -> Face:
    dx, dy = _DEPTH
    x, y = CHANNELS * _SIDE + graph * dx, node * _SIDE + graph * dy
    corners = ((x, y), (x + dx, y + dy), (x + dx, y + dy + _SIDE), (x, y + _SIDE))
    return Face(corners, "side", shared(graph, node, CHANNELS - 1))


def _path(face: Face) -> str:
    points = "L".join(f"{x:.1f} {y:.1f}" for x, y in face.corners)
    light = _FACES[face.kind]
    color = "#D55E00" if face.shared else "#9aa5b1"
    opacity = (0.55 + 0.45 * light) if face.shared else 0.12 + 0.1 * light
    return f'<path d="M{points}Z" fill="{color}" fill-opacity="{opacity:.2f}"/>'


def _text(x: float, y: float, words: str, *, turn: int = 0, anchor: str = "middle") -> str:
    rotate = f' transform="rotate({turn} {x:.0f} {y:.0f})"' if turn else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{rotate} style="text-anchor:{anchor}">{words}</text>'
