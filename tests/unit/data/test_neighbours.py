"""Neighbour sampling: which edges are drawn, how often, and what the minibatch is."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.data import GraphSet
from graphnorms.data.neighbours import ALL, NeighbourSampler, sampled_batch
from graphnorms.data.tasks import Task


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def graph() -> GraphSet:
    """A directed graph of 200 nodes with degrees from 0 to 60, features of edges, and parallels."""
    generator = seeded(0)
    degrees = torch.randint(0, 60, (200,), generator=generator)
    target = torch.cat([torch.full((degree,), i) for i, degree in enumerate(degrees.tolist())])
    source = torch.randint(0, 150, target.shape, generator=generator)
    whole = Adjacency.from_edge_index(torch.stack((source, target)), 200)
    return GraphSet(
        name="hubs",
        x=torch.arange(200.0).unsqueeze(1),
        ptr=torch.tensor([0, 200]),
        edge_ptr=whole.ptr,
        edge_index=whole.index,
        transpose_ptr=whole.transpose_ptr,
        transpose_index=whole.transpose_index,
        y=torch.arange(200) % 3,
        task=Task(kind="classification", targets=("a", "b", "c"), level="node"),
        features="number",
        edge_features=torch.arange(float(len(source))).unsqueeze(1),
    )


def incoming(graph: GraphSet, node: int) -> set[int]:
    """Return the positions of the edges that end in a node."""
    return set(range(int(graph.edge_ptr[node]), int(graph.edge_ptr[node + 1])))


@pytest.mark.parametrize("sizes", [(3, 2), (5,), (ALL, 4), (1, 1, 1)])
def test_every_node_is_expanded_once_by_the_hop_that_reaches_it(graph, sizes) -> None:
    sampler = NeighbourSampler(graph.edge_ptr, graph.edge_index, sizes)
    seeds = torch.tensor([17, 3, 150, 199, 42])
    for seed in range(5):
        nodes, ptr, index, places = sampler.sample(seeds, seeded(seed))
        assert nodes[:5].tolist() == seeds.tolist()
        assert len(set(nodes.tolist())) == len(nodes)
        reached, known, row = seeds.tolist(), set(seeds.tolist()), 0
        for size in sizes:
            found: set[int] = set()
            for node in reached:
                drawn = places[ptr[row] : ptr[row + 1]].tolist()
                possible = incoming(graph, node)
                wanted = len(possible) if size == ALL else min(size, len(possible))
                assert len(set(drawn)) == len(drawn) == wanted
                assert set(drawn) <= possible
                sources = graph.edge_index[drawn].tolist()
                assert nodes[index[ptr[row] : ptr[row + 1]]].tolist() == sources
                found |= {source for source in sources if source not in known}
                row += 1
            reached = sorted(found)
            known |= found
        assert nodes.tolist()[row:] == reached, "the last hop is not expanded"
        assert bool((ptr[row:] == len(index)).all())
        again = NeighbourSampler(graph.edge_ptr, graph.edge_index, sizes)
        for one, other in zip(
            again.sample(seeds, seeded(seed)), (nodes, ptr, index, places), strict=True
        ):
            assert torch.equal(one, other), "depends on the generator alone"


def test_all_subsets_are_equally_likely() -> None:
    # 4000 nodes with the same five neighbours: ten subsets of three, 400 of each expected.
    ptr = torch.arange(0, 5 * 4000 + 1, 5)
    ptr = torch.cat((ptr, ptr[-1:].expand(5)))
    index = torch.arange(4000, 4005).repeat(4000)
    sample = NeighbourSampler(ptr, index, [3]).sample(torch.arange(4000), seeded(1))
    counts = dict.fromkeys(itertools.combinations(range(5), 3), 0)
    for drawn in (sample.places % 5).view(4000, 3).tolist():
        counts[tuple(drawn)] += 1
    chi_squared = sum((count - 400) ** 2 / 400 for count in counts.values())
    assert chi_squared < 27.9  # the 0.999 quantile at 9 degrees of freedom


def dense(adjacency: Adjacency) -> Tensor:
    made = torch.zeros(adjacency.num_nodes, adjacency.num_nodes)
    source, target = adjacency.to_edge_index()
    return made.index_put((target, source), torch.ones(len(source)), accumulate=True)


def test_the_minibatch_is_the_sampled_graph(graph) -> None:
    sampler = NeighbourSampler(graph.edge_ptr, graph.edge_index, (4, 4))
    sample = sampler.sample(torch.tensor([9, 8, 7]), seeded(2))
    batch = sampled_batch(graph, sample)
    adjacency = batch.adjacency
    Adjacency(  # checks that the transpose and its order are those of the same edges
        adjacency.ptr,
        adjacency.index,
        *adjacency.transpose,
        transpose_order=adjacency.transpose_order,
    )
    assert batch.x[:, 0].long().tolist() == sample.nodes.tolist()
    assert batch.y.tolist() == (sample.nodes % 3).tolist()
    assert (batch.num_graphs, batch.segments.num_rows) == (1, len(sample.nodes))
    assert batch.edge_features is not None
    assert graph.kept_edge_features is not None
    assert torch.equal(batch.edge_features, graph.kept_edge_features[sample.places])
    # Where every neighbour is taken, the rows of the seeds are those of the whole graph.
    whole = NeighbourSampler(graph.edge_ptr, graph.edge_index, (ALL,))
    near = whole.sample(torch.tensor([9, 8, 7]), seeded(0))
    rows = dense(sampled_batch(graph, near).adjacency)[:3]
    of_graph = Adjacency(
        graph.edge_ptr, graph.edge_index, graph.transpose_ptr, graph.transpose_index
    )
    assert torch.equal(rows, dense(of_graph)[[9, 8, 7]][:, near.nodes])
