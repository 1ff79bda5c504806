"""Times cases in another installation of graphnorms, which runs this file: it may be an older one.

So it imports nothing of the benchmarks, and only names that were there in every version. A line of
JSON on standard input makes a case or times one, and a line of JSON answers; what is sent is in
`graphnorms.bench.beside`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

from graphnorms.layers import make_norm

Action = Callable[[], object]


def layer(case: dict[str, Any]) -> Action:
    """Return a call of a layer: forward without gradients, or forward and backward."""
    device, dtype = case["device"], getattr(torch, case["dtype"])
    counts = torch.tensor(case["counts"])
    batch = torch.repeat_interleave(torch.arange(len(counts)), counts).to(device)
    x = torch.randn(int(counts.sum()), case["channels"], generator=torch.Generator().manual_seed(0))
    module = make_norm(case["norm"], case["channels"], **case["arguments"])
    module = module.to(device, dtype)
    leaf = x.to(device, dtype).requires_grad_()
    grad_y = torch.randn_like(leaf)
    leaves = [leaf, *module.parameters()]

    def forward() -> None:
        with torch.no_grad():
            module(leaf, batch, len(counts))

    def both() -> None:
        for tensor in leaves:
            tensor.grad = None
        module(leaf, batch, len(counts)).backward(grad_y)

    return both if case["backward"] else forward


def epoch(case: dict[str, Any]) -> Action:
    """Return an epoch of GIN with GraphNorm on packed batches."""
    from graphnorms.data.synthetic import random_graphs
    from graphnorms.models import GNN, ModelConfig

    graphs = random_graphs(case["graphs"], case["nodes"]).to(case["device"])
    config = ModelConfig(name="gin", layers=case["layers"], hidden=case["hidden"], dropout=0.0)
    model = GNN(config, case["norm"], graphs.num_features, graphs.num_classes, seed=0)
    model = model.to(case["device"])
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    order = torch.Generator().manual_seed(0)

    def train() -> None:
        for ids in torch.randperm(len(graphs), generator=order).split(case["batch"]):
            batch = graphs.batch(ids)
            outputs = model(batch.x, batch.adjacency, batch.segments)
            loss = torch.nn.functional.cross_entropy(outputs, batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train


def trials(case: dict[str, Any]) -> Action:
    """Return the trials of a comparison in worker processes."""
    from graphnorms.data import load_dataset
    from graphnorms.data.synthetic import random_graphs
    from graphnorms.lab.engines import make_engine
    from graphnorms.models import ModelConfig
    from graphnorms.training import TrialConfig, run_trial

    graphs = random_graphs(*case["random"]) if case["random"] else load_dataset(case["dataset"])
    own = {"fingerprint": graphs.fingerprint, "model": ModelConfig(**case["model"]).to_dict()}
    configs = [TrialConfig(**{**config, **own}) for config in case["configs"]]
    engine = make_engine("local", run_trial, graphs, workers=case["workers"])

    def run() -> None:
        for record in engine.run(configs):
            if record.status != "done":
                raise RuntimeError(f"a trial failed: {record.reason}")

    return run


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    made: list[Action] = []
    print(json.dumps({"version": version("graphnorms")}), file=answers, flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        try:
            if "make" in case:
                torch.set_num_threads(case["threads"])
                action = {"layer": layer, "epoch": epoch, "trials": trials}[case["make"]](case)
                action()
                made.append(action)
                answer: dict[str, Any] = {"number": len(made) - 1}
            else:
                action = made[case["number"]]
                begin = time.perf_counter()
                for _ in range(case["repeats"]):
                    action()
                if case["device"] != "cpu":
                    torch.accelerator.synchronize(torch.device(case["device"]))
                answer = {"seconds": (time.perf_counter() - begin) / case["repeats"]}
        except Exception as error:  # an older version cannot do everything
            answer = {"refused": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
