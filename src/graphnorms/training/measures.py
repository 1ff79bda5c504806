"""What a model does to its data: measured in a trial before the first step and after the last.

Lists have one value per norm (of the nodes), or per convolution, in the order of the forward pass;
None where a value is undefined. A name is missing where all of its values are.

| name | of each | value |
|---|---|---|
| `batch_noise` | norm | variance of the mean of random batches over that of the entries, in front |
| `scale_noise` | norm | the same of the deviation of batches |
| `design_effect` | norm | `batch_noise` over that of as many independent rows |
| `between_graphs` | norm | share of the variance in front of it that is between graphs |
| `mean_label` | norm | share of the variance of the label that means of graphs explain, in front |
| `mean_label_after` | norm | the same behind it, before activation and residual sum |
| `running_gap` | norm | running mean less mean of the training data, in deviations of the data |
| `shift` | norm | running mean less mean of validation and test data, in the same deviations |
| `scale_shift` | norm | logarithm of their deviation over the running one, without sign |
| `alpha`, `gamma` | norm | mean absolute value of the parameter |
| `alpha_moved` | norm | mean absolute difference of α from 1 |
| `constant` | norm | share of channels that are constant behind it, before the activation |
| `dead` | norm | share of channels that are 0 behind its ReLU |
| `effective_rate` | norm | learning rate for the direction of the weights in front of it |
| `gradient` | convolution | norm of the gradient of the loss with respect to its output |
| `activation` | convolution | root mean square of its output |
| `dirichlet` | convolution | Dirichlet energy over the squared norm, mean over graphs |
| `smoothness` | | effective β along the gradient |
| `score_gap` | | score of training items in eval mode less that with statistics of batches |
| `input_rms` | | root mean square of the input columns |
| `input_spread` | | largest over smallest deviation of columns; columns of 0 and 1 count as 1 |

Values per channel are averaged over the channels that vary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from graphnorms.errors import one_line
from graphnorms.kernels.point import in_float64
from graphnorms.models.initialize import derive_seed, seed_draws
from graphnorms.probes import (
    GraphMoments,
    activation_gradient_norms,
    along_gradient,
    dirichlet_energy,
)
from graphnorms.probes.capture import hooked
from graphnorms.probes.state import Snapshot
from graphnorms.process_state import kept_state
from graphnorms.segments import Segments
from graphnorms.training.measured_layers import (
    convolutions_of,
    forgets_scale,
    norms_of,
    parameter_of,
    plain_calls,
    running_of,
)
from graphnorms.training.measured_norms import Seen, finite_mean
from graphnorms.training.metrics import metric_for
from graphnorms.training.predictor import apply

if TYPE_CHECKING:
    from graphnorms.training.minibatches import Items, Minibatch
    from graphnorms.training.objective import Objective
    from graphnorms.training.trial_config import TrialConfig
    from graphnorms.training.trial_model import Model

MOST_GRAPHS: Final = 256
MOST_NODES: Final = 1 << 15
IN_BATCH: Final = (32, 64)
"""How much of each part is looked at; fewest and most graphs of a batch."""

STEP: Final = 0.1
"""How far is walked along the gradient: the learning rate of Santurkar et al. 2018."""

Values = list[float | None]


class Measuring:
    """Measures the model of a trial, on the same few items whenever it is called.

    Model, mode, buffers, gradients and random generators are afterwards what they were.

    Args:
        model: The model, ours or the user's own.
        objective: Its loss.
        config: The trial.
        training: The training items.
        others: The validation items, and those of the test if there are any.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        config: TrialConfig,
        training: Items,
        others: Sequence[Items],
    ) -> None:
        self.model = model
        self.objective = objective
        self.config = config
        self._metric = metric_for(config.metric, objective.task).name
        self._batches = chosen_batches(training, config)
        self._graphs = training.graph_ids.shape[0]
        self._others = [batch for items in others for batch in chosen_batches(items, config)]
        self.norms = norms_of(model)
        self.convolutions = convolutions_of(model)

    def __call__(self) -> dict[str, Any]:
        """Measure, see the module; JSON-able. A model that fails has a `problem` in words."""
        modes = {module: module.training for module in self.model.modules()}
        start = Snapshot.take(self.model)
        try:
            with kept_state(of_trials=False):
                device = next(self.model.parameters()).device
                seed_draws(device, derive_seed(self.config.seed, "measures"))
                found = self._evaluated()
                start.restore()  # batches have moved the running statistics
                seed_draws(device, derive_seed(self.config.seed, "measures"))
                return _known(found | self._trained())
        except Exception as error:  # a trial does not fail because a model cannot be measured
            return {"problem": one_line(error)}
        finally:
            start.restore()
            for module, mode in modes.items():
                module.training = mode

    def _evaluated(self) -> dict[str, Any]:
        """What is measured in eval mode."""
        self.model.eval()
        return {**self._of_running(), "score_gap": self._score_gap()}

    def _trained(self) -> dict[str, Any]:
        """What is measured in training mode."""
        self.model.train()
        return {
            **self._of_norms(self._seen()),
            **self._of_parameters(),
            **self._of_convolutions(),
            **self._of_inputs(),
        }

    def _seen(self) -> dict[str, Seen]:
        """Run the training batches in training mode; what every norm was given and made of it."""
        found: dict[str, list[Seen]] = {}

        def receive(name: str, x: Tensor, y: Tensor, segments: Segments) -> None:
            gamma = parameter_of(self.norms[name], "weight")
            seen = Seen.of(x.detach(), y.detach(), segments, gamma)
            found.setdefault(name, []).append(seen)

        with torch.no_grad():
            for batch in self._batches:
                segments = batch.batch.segments
                note = functools.partial(receive, segments=segments)
                with plain_calls(self.norms, segments.num_rows, note):
                    self._apply(batch)
        return {name: Seen.joined(parts) for name, parts in found.items()}

    def _of_norms(self, seen: Mapping[str, Seen]) -> dict[str, Values]:
        label = self._label()
        size = min(self.config.batch_size, self._graphs)
        rows: list[dict[str, float]] = []
        for name, norm in self.norms.items():
            rows.append({})
            if name not in seen:
                continue
            one = seen[name]
            rows[-1] |= one.noise(size, self._graphs) | one.channels()
            if label is not None:
                rows[-1] |= one.explained(label)
            if getattr(norm, "activation", None) != "relu":
                del rows[-1]["dead"]
        return _columns(rows)

    def _of_running(self) -> dict[str, Values]:
        """Compare running statistics with those of the training items and of the others."""
        running = {name: norm for name, norm in self.norms.items() if running_of(norm) is not None}
        if not running:
            return {}
        trained, others = (
            self._inputs(running, batches) for batches in (self._batches, self._others)
        )
        rows: list[dict[str, float]] = []
        for name, norm in self.norms.items():
            row: dict[str, float] = {}
            rows.append(row)
            averages = running_of(norm)
            if averages is None or name not in trained:
                continue
            mean, variance = (in_float64(each).to(trained[name].mean.device) for each in averages)
            spread = trained[name].whole_variance.sqrt()
            row["running_gap"] = finite_mean((mean - trained[name].whole_mean).abs() / spread)
            if name in others:
                there = others[name]
                row["shift"] = finite_mean((mean - there.whole_mean).abs() / spread)
                row["scale_shift"] = finite_mean((there.whole_variance / variance).log().abs() / 2)
        return _columns(rows)

    def _inputs(
        self, norms: Mapping[str, nn.Module], batches: Sequence[Minibatch]
    ) -> dict[str, GraphMoments]:
        found: dict[str, list[GraphMoments]] = {}
        for batch in batches:
            segments = batch.batch.segments

            def receive(name: str, x: Tensor, segments: Segments = segments) -> None:
                if x.shape[0] == segments.num_rows:
                    found.setdefault(name, []).append(GraphMoments.of(x.detach(), segments))

            with hooked(self.model, norms, "input", receive), torch.no_grad():
                self._apply(batch)
        return {name: GraphMoments.joined(parts) for name, parts in found.items()}

    def _of_parameters(self) -> dict[str, Values]:
        in_front = self._weights_in_front()
        rows = []
        for name, norm in self.norms.items():
            row = {}
            for which, parameter in (("alpha", "mean_scale"), ("gamma", "weight")):
                value = parameter_of(norm, parameter)
                if value is not None:
                    row[which] = float(value.detach().abs().mean())
                    if which == "alpha":
                        row["alpha_moved"] = float((value.detach() - 1).abs().mean())
            weight = in_front.get(name)
            if weight is not None and forgets_scale(norm):
                size = float(in_float64(weight.detach()).square().mean().sqrt())
                # Steps of Adam have the size of the rate, those of SGD that of the gradient, which
                # falls with the size of the weights.
                power = 2 if self.config.optimizer.startswith("sgd") else 1
                row["effective_rate"] = (
                    self.config.learning_rate / size**power if size else math.nan
                )
            rows.append(row)
        return _columns(rows)

    def _weights_in_front(self) -> dict[str, Tensor]:
        """The weights of the last Linear that was called before each norm, of its width."""
        found: dict[str, Tensor] = {}
        last: list[Tensor] = []
        linears = {
            name: weight
            for name, module in self.model.named_modules()
            if isinstance(weight := getattr(module, "weight", None), nn.Parameter)
            and weight.dim() == 2
            and name not in self.norms
        }

        def receive(name: str, x: Tensor) -> None:
            if name in linears:
                last[:] = [linears[name]]
            elif last and last[0].shape[0] == x.shape[-1]:
                found.setdefault(name, last[0])

        batch = self._batches[0]
        with hooked(self.model, {**linears, **self.norms}, "input", receive), torch.no_grad():
            self._apply(batch)
        return found

    def _of_convolutions(self) -> dict[str, Any]:
        batch = self._batches[0]
        names, adjacency = self.convolutions, batch.batch.adjacency
        segments = batch.batch.segments
        sizes: dict[str, float] = {}
        energies: dict[str, float] = {}

        def receive(name: str, x: Tensor) -> None:
            if name in sizes or x.shape[0] != segments.num_rows:
                return
            x = x.detach()  # forces are gradients, and record one
            sizes[name] = float(in_float64(x).square().mean().sqrt())
            if adjacency.symmetric:
                energy = dirichlet_energy(in_float64(x), adjacency, segments, relative=True)
                energies[name] = finite_mean(energy)

        with hooked(self.model, names, "output", receive), torch.no_grad():
            self._apply(batch)
        gradients = {}
        if sizes:
            gradients = activation_gradient_norms(self.model, lambda: self._loss(batch), sizes)
        walk = along_gradient(self.model, lambda: self._loss(batch), (STEP,))
        return {
            "gradient": [gradients.get(name) for name in names],
            "activation": [sizes.get(name) for name in names],
            "dirichlet": [energies.get(name) for name in names],
            "smoothness": walk.effective_beta,
        }

    def _apply(self, batch: Minibatch) -> Tensor:
        return apply(self.model, batch.batch, batch.factors)

    def _loss(self, batch: Minibatch) -> Tensor:
        return self.objective.loss(self._apply(batch), batch.targets)

    def _of_inputs(self) -> dict[str, float]:
        x = in_float64(torch.cat([batch.batch.x for batch in self._batches]))
        if not x.numel():
            return {}
        of_labels = ((x == 0) | (x == 1)).all(0)
        spread = torch.where(of_labels, 1.0, x.std(0, correction=0))
        spread = spread[spread > 0]
        return {
            "input_rms": float(x.square().mean().sqrt()),
            "input_spread": float(spread.max() / spread.min()) if spread.numel() else math.nan,
        }

    def _score_gap(self) -> float:
        """The score in eval mode less that with the statistics of batches, without dropout."""
        running = [norm for norm in self.norms.values() if running_of(norm) is not None]
        if not running:
            return math.nan
        targets = torch.cat([batch.targets for batch in self._batches])
        scores = []
        for by_batch in (False, True):
            for norm in running:
                norm.train(by_batch)
            with torch.no_grad():
                outputs = torch.cat([self._apply(each) for each in self._batches])
            if not outputs.isfinite().all():
                return math.nan
            scores.append(self.objective.judge(self._metric, outputs, targets).score)
        return scores[0] - scores[1]

    def _label(self) -> Any:
        """The targets of the graphs, `(graphs, columns)`, classes as columns of 0 and 1."""
        if self.objective.task.level == "node":
            return None
        y = torch.cat([batch.batch.y for batch in self._batches]).cpu()
        if self.objective.kind == "classification":
            ones = torch.nn.functional.one_hot(y.clamp(min=0), self.objective.task.outputs)
            return torch.where(y.unsqueeze(1) < 0, torch.nan, ones.double()).numpy()
        return y.double().view(len(y), -1).numpy()


def chosen_batches(items: Items, config: TrialConfig) -> list[Minibatch]:
    """Draw the minibatches that are looked at, the same for trials of one seed.

    Their size is that of the trial, within `IN_BATCH`; they have at most `MOST_GRAPHS` graphs
    together, and of large graphs no more than have `MOST_NODES` nodes, but two.

    Args:
        items: The items of a part.
        config: The trial.
    """
    draw = torch.Generator().manual_seed(derive_seed(config.seed_of_order, "measures"))
    ids = items.graph_ids
    ids = ids[torch.randperm(ids.shape[0], generator=draw)[:MOST_GRAPHS]]
    fitting = int((items.nodes_of(ids).cumsum(0) <= MOST_NODES).sum())
    ids = ids[: max(2, fitting)]
    smallest, largest = IN_BATCH
    parts = ids.split(min(max(config.batch_size, smallest), largest))
    return [items.minibatch(part) for part in parts if len(part) > 1 or len(ids) == 1]


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, Values]:
    """Turn a mapping for each norm into a list for each name."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _known(found: Mapping[str, Any]) -> dict[str, Any]:
    """Round to six digits, replace what is not finite by None, and leave out what is unknown."""
    known: dict[str, Any] = {}
    for name, value in found.items():
        several = [_rounded(each) for each in (value if isinstance(value, list) else [value])]
        if any(each is not None for each in several):
            known[name] = several if isinstance(value, list) else several[0]
    return known


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
