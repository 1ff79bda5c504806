"""Isomorphic graphs are found, all of them and no others; what a set holds is counted."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from graphnorms.data import GraphSet, Task, twins
from graphnorms.data.quality import Likeness, quality_of
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading
from graphnorms.data.twins import find_twins, node_colours


def graph_set(graphs: list[nx.Graph | nx.DiGraph], y: list[int] | None = None) -> GraphSet:
    """Graphs of networkx, nodes with attribute x and edges with attribute w, as a set."""
    ptr = np.cumsum([0, *map(len, graphs)])
    source, target, kind = [], [], []
    for graph, first in zip(graphs, ptr, strict=False):
        place = {node: first + at for at, node in enumerate(graph)}
        for one, other, w in graph.to_directed().edges(data="w", default=0):
            source.append(place[one])
            target.append(place[other])
            kind.append([w])
    x = [[graph.nodes[node].get("x", 0)] for graph in graphs for node in graph]
    has_kinds = any(any(row) for row in kind)
    return RawGraphs(
        name="few",
        ptr=ptr.astype(np.int64),
        source=np.array(source, dtype=np.int64),
        target=np.array(target, dtype=np.int64),
        y=np.arange(len(graphs)) % 2 if y is None else np.array(y),
        attributes=np.array(x, dtype=np.float32),
        edge_attributes=np.array(kind, dtype=np.float32) if has_kinds else None,
    ).pack(Reading(features="attributes"))


def permuted(graph: nx.Graph, seed: int) -> nx.Graph:
    """The same graph, its nodes in another order."""
    order = np.random.default_rng(seed).permutation(len(graph))
    nodes = list(graph)
    result = graph.__class__()
    result.add_nodes_from((nodes[at], graph.nodes[nodes[at]]) for at in order)
    result.add_edges_from(graph.edges(data=True))
    return result


def shrikhande() -> nx.Graph:
    graph = nx.Graph()
    for a in range(4):
        for b in range(4):
            for step in ((1, 0), (0, 1), (1, 1)):
                graph.add_edge((a, b), ((a + step[0]) % 4, (b + step[1]) % 4))
    return graph


TRIANGLES, HEXAGON = nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)), nx.cycle_graph(6)
ROOK, SHRIKHANDE = nx.line_graph(nx.complete_bipartite_graph(4, 4)), shrikhande()


def test_a_permuted_graph_is_a_twin_and_one_with_an_edge_moved_is_not():
    graph = nx.gnm_random_graph(30, 60, seed=1)
    moved = graph.copy()
    moved.remove_edge(*next(iter(graph.edges)))
    moved.add_edge(*next(iter(nx.non_edges(graph))))
    found = find_twins(graph_set([graph, moved, permuted(graph, 0), permuted(moved, 1)]))
    assert found.same.tolist() == [0, 1, 0, 1]
    assert found.undecided == 0


def test_two_triangles_and_a_hexagon_have_the_same_colours_and_are_no_twins():
    found = find_twins(
        graph_set([TRIANGLES, HEXAGON, permuted(TRIANGLES, 3), permuted(HEXAGON, 4)])
    )
    assert found.alike.tolist() == [0, 0, 0, 0]
    assert found.same.tolist() == [0, 1, 0, 1]
    assert found.undecided == 0


def test_strongly_regular_graphs_of_the_same_parameters_are_told_apart():
    for graph in (ROOK, SHRIKHANDE):
        assert nx.is_strongly_regular(graph)
    cases = [ROOK, SHRIKHANDE, permuted(SHRIKHANDE, 1), permuted(ROOK, 2)]
    found = find_twins(graph_set(cases))
    assert found.same.tolist() == [0, 1, 1, 0]


def test_graphs_whose_nodes_are_interchangeable_take_no_search(monkeypatch):
    monkeypatch.setattr(twins, "_WORK", 2_000_000)
    graphs = [nx.complete_graph(120), nx.star_graph(2000), nx.complete_bipartite_graph(30, 40)]
    found = find_twins(graph_set([*graphs, *(permuted(graph, 5) for graph in graphs)]))
    assert found.same.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.undecided == 0


def test_trees_take_no_search_however_symmetric(monkeypatch):
    monkeypatch.setattr(twins, "_WORK", 1_500_000)  # a few rounds of so many nodes
    binary = nx.balanced_tree(2, 9)
    pruned = binary.copy()
    pruned.remove_node(next(node for node in binary if binary.degree[node] == 1))
    forest = nx.disjoint_union(nx.star_graph(5), nx.disjoint_union(nx.star_graph(5), pruned))
    graphs = [binary, pruned, forest]
    found = find_twins(graph_set([*graphs, *(permuted(graph, 2) for graph in graphs)]))
    assert found.same.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.undecided == 0


def test_what_trees_hang_on_is_compared_all_the_same():
    cases = []
    for core in (TRIANGLES, HEXAGON):
        graph = core.copy()
        for node in list(core):  # the same at every node: colours do not tell the two apart
            graph.add_edges_from(
                [(node, 10 + node), (10 + node, 20 + node), (10 + node, 30 + node)]
            )
        cases += [graph, permuted(graph, node)]
    found = find_twins(graph_set(cases))
    assert found.alike.tolist() == [0, 0, 0, 0]
    assert found.same.tolist() == [0, 0, 2, 2]
    assert found.undecided == 0


def test_a_graph_that_takes_many_rounds_does_not_hold_up_the_others(monkeypatch):
    # A path of 400 nodes is refined 200 times; 300 small graphs are not to be, which would be
    # 300 · 20 · 200 visits and more.
    monkeypatch.setattr(twins, "_WORK", 2 * (200 * (20_000 + 1200) + 500_000))
    rings = [nx.gnm_random_graph(8, 12, seed=seed) for seed in range(150)]
    paths = [nx.path_graph(400), permuted(nx.path_graph(400), 1)]
    graphs = [*rings, *(permuted(graph, 3) for graph in rings), *paths]
    found = find_twins(graph_set(graphs))
    assert found.undecided == 0
    assert found.same[-2:].tolist() == [300, 300]
    assert (found.same[150:300] == found.same[:150]).all()


def test_node_features_count_as_the_model_sees_them_and_not_for_structure():
    paths = [nx.path_graph(3) for _ in range(4)]
    for path, labels in zip(paths, ((1, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 1)), strict=True):
        nx.set_node_attributes(path, dict(enumerate(labels)), "x")
    graphs = graph_set(paths)
    assert find_twins(graphs).same.tolist() == [0, 0, 2, 3]
    assert find_twins(graphs, structure_only=True).same.tolist() == [0, 0, 0, 0]


def test_edge_features_count_as_the_model_sees_them_and_not_for_structure():
    paths = [nx.path_graph(3) for _ in range(3)]
    for path, kinds in zip(paths, ((1, 2), (2, 1), (2, 2)), strict=True):
        nx.set_edge_attributes(path, dict(zip(path.edges, kinds, strict=True)), "w")
    graphs = graph_set(paths)
    assert find_twins(graphs).same.tolist() == [0, 0, 2]
    assert find_twins(graphs, structure_only=True).same.tolist() == [0, 0, 0]


def test_directions_and_loops_count():
    cycle = nx.DiGraph([(0, 1), (1, 2), (2, 0)])
    in_star, out_star = nx.DiGraph([(1, 0), (2, 0)]), nx.DiGraph([(0, 1), (0, 2)])
    looped, other_loop = nx.path_graph(3), nx.path_graph(3)
    looped.add_edge(0, 0)
    other_loop.add_edge(1, 1)
    two = permuted(looped, 1)
    cases = [cycle, in_star, out_star, cycle.reverse(), looped, other_loop, two]
    assert find_twins(graph_set(cases)).same.tolist() == [0, 1, 2, 0, 4, 5, 4]


@pytest.mark.parametrize("directed", [False, True])
def test_the_twins_among_random_small_graphs_are_those_that_networkx_finds(directed):
    draw = np.random.default_rng(7)
    kind = nx.DiGraph if directed else nx.Graph
    graphs = []
    for _ in range(150):
        graph = kind()
        graph.add_nodes_from((node, {"x": int(draw.integers(2))}) for node in range(4))
        for _ in range(int(draw.integers(6))):
            graph.add_edge(*draw.integers(4, size=2).tolist())
        graphs.append(graph)
    match = nx.isomorphism.categorical_node_match("x", 0)
    for structure_only in (False, True):
        right: list[int] = []
        for at, graph in enumerate(graphs):
            same = (
                first
                for first in sorted(set(right))
                if nx.is_isomorphic(graphs[first], graph, None if structure_only else match)
            )
            right.append(next(same, at))
        assert len(set(right)) < len(right)
        found = find_twins(graph_set(graphs), structure_only=structure_only)
        assert found.same.tolist() == right


def test_too_much_work_is_undecided_and_never_a_twin(monkeypatch):
    pair = graph_set([ROOK, SHRIKHANDE, permuted(SHRIKHANDE, 1)])
    monkeypatch.setattr(twins, "_COPIES", 10)  # enough for no search
    found = find_twins(pair)
    assert found.same[0] not in found.same[1:]
    assert found.undecided == 3
    monkeypatch.setattr(twins, "_WORK", 10)  # not even for the first colours
    found = find_twins(pair)
    assert found.same.tolist() == [0, 1, 2]
    assert found.undecided == 3
    assert node_colours(pair) is None


def test_nodes_of_one_colour_are_those_of_the_same_place():
    colours = node_colours(graph_set([nx.path_graph(5)]))
    assert colours is not None
    assert colours.tolist() == [0, 1, 2, 1, 0]


def test_contradictions_are_counted_by_hand():
    a, b, c = nx.path_graph(3), nx.cycle_graph(4), nx.star_graph(4)
    graphs = graph_set([a, a, a, b, b, c], [0, 0, 1, 1, 1, 0])
    found = quality_of(graphs)
    assert found.twins == Likeness(items=5, groups=2, contradicting=3)
    assert found.structure == found.alike == found.twins


def test_an_unknown_target_contradicts_nothing():
    y = torch.tensor([[0.0, 1.0], [torch.nan, 1.0], [1.0, torch.nan]])
    found = Likeness.of(np.array([0, 0, 2]), y.double().numpy())
    assert found == Likeness(items=2, groups=1, contradicting=0)
    found = Likeness.of(np.array([0, 0, 0]), y.double().numpy())
    assert found == Likeness(items=3, groups=1, contradicting=3)


def test_what_is_degenerate_is_counted():
    # A lone node; two nodes without edges; a node with a loop alone; an edge beside a lone node;
    # no node at all; a pair whose edge is listed twice.
    ptr = [0, 1, 3, 4, 7, 7, 9]
    edges = [(3, 3), (4, 5), (5, 4), (7, 8), (7, 8), (8, 7), (8, 7)]
    degree = np.bincount([target for _, target in edges], minlength=9)
    first = dict(zip(range(9), np.repeat(ptr[:-1], np.diff(ptr)).tolist(), strict=True))
    index = [source - first[source] for source, _ in sorted(edges, key=lambda edge: edge[1])]
    graphs = GraphSet(
        name="odd",
        x=torch.tensor([[1.0, 0.0, 3.0]] * 8 + [[1.0, 0.0, 4.0]]),
        ptr=torch.tensor(ptr),
        edge_ptr=torch.tensor([0, *np.cumsum(degree)]),
        edge_index=torch.tensor(index),
        y=torch.tensor([0, 1, 0, 1, 0, -1]),
        task=Task(kind="classification", targets=("no", "yes")),
        features="numbers",
    )
    found = quality_of(graphs)
    assert (found.empty, found.one_node, found.edgeless) == (1, 2, 3)
    assert (found.isolated, found.isolated_in) == (5, 4)
    assert (found.loops, found.repeats) == (1, 2)
    assert (found.columns, found.constant) == (3, 2)
    assert found.classes == {"no": 3, "yes": 2}
    assert found.missing == {"": 1}
