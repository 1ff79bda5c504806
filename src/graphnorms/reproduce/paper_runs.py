"""Training by a paper's protocol: a comparison of the lab for each data set, model and protocol.

Its folder, `MUTAG-gin-paper`, always stands for all folds and norms of the paper; what is asked for
is the part of it that is trained now, and a later call trains more.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from graphnorms.data import GraphSet, load_dataset
from graphnorms.errors import DatasetError, unknown_name
from graphnorms.interrupts import terminable
from graphnorms.lab.agenda import Agenda
from graphnorms.lab.comparison import Comparison, open_comparison
from graphnorms.lab.engines import ThisProcess
from graphnorms.lab.options import Options
from graphnorms.lab.prepare import prepare
from graphnorms.lab.run import CONFIG, RECORDS, Run
from graphnorms.reproduce.kept_records import restore
from graphnorms.reproduce.published_values import Paper

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig

PER_CLASS, VALIDATED, TESTED = 20, 500, 1000
"""Nodes of a split drawn by class."""

_NO_REASONS: Final = "none"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is trained of a paper, where that is not all of it.

    Args:
        datasets, models, norms: Of those of the paper; None for all.
        folds: The first ones of folds, splits or seeds; None for all.
        epochs: Another number of them than the paper's, in folders of its own.
        protocols: Of those of the paper; None for all.
    """

    datasets: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    norms: tuple[str, ...] | None = None
    folds: int | None = None
    epochs: int | None = None
    protocols: tuple[str, ...] | None = None

    def checked(self, paper: Paper) -> Part:
        """Return this part, if the paper has it.

        Raises:
            ValueError: It has no such data set, model, norm or protocol, or not together.
        """
        for kind in ("datasets", "models", "norms", "protocols"):
            known: tuple[str, ...] = getattr(paper, kind)
            for name in getattr(self, kind) or ():
                if name not in known:
                    raise unknown_name(kind.removesuffix("s"), name, known)
        for name in ("folds", "epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected a number from 1 on")
        if not cells_of(paper, self):
            raise ValueError(
                f"{paper.name} has no protocol {' or '.join(self.protocols or ())} for these data "
                "sets and models; leave one of them out"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A data set, a model and a protocol.

    Args:
        paper: The paper.
        dataset, model, protocol: Of those of the paper.
        epochs: See `Part`.
    """

    paper: Paper
    dataset: str
    model: str
    protocol: str
    epochs: int | None = None

    @property
    def folder(self) -> str:
        """The name of its folder."""
        words = [self.dataset, self.model, self.protocol]
        return "-".join(words + ([f"{self.epochs}-epochs"] if self.epochs else []))

    @property
    def title(self) -> str:
        """What it is, in words."""
        return f"{self.dataset}, {self.model.upper()}, protocol {self.protocol}"

    @property
    def given(self) -> dict[str, Any] | None:
        """The options of the paper; None if it has no such cell."""
        return self.paper.options(self.dataset, self.model, self.protocol)

    def options(self, folder: Path, workers: int | None = None) -> Options:
        """Return what `compare` would be asked for."""
        given = dict(self.given or {}, **({"epochs": self.epochs} if self.epochs else {}))
        return Options(
            norms=self.paper.norms, reasons=_NO_REASONS, workers=workers, out=folder, **given
        )

    def wants(self, config: TrialConfig, part: Part) -> bool:
        """Whether a trial belongs to a part of the paper, which may use fewer splits than given."""
        number = max(config.split.get("fold", 0), config.run)
        published = self.paper.counted[self.dataset]
        return (part.norms is None or config.norm in part.norms) and (
            number < min(part.folds or published, published)
        )


Say = Callable[[str], None]


def cells_of(paper: Paper, part: Part) -> list[Cell]:
    """List what a part of a paper trains: by model, then by data set, in the order of cost."""
    chosen = (
        getattr(part, kind) or getattr(paper, kind) for kind in ("models", "datasets", "protocols")
    )
    cells = (
        Cell(paper=paper, dataset=dataset, model=model, protocol=protocol, epochs=part.epochs)
        for model, dataset, protocol in itertools.product(*chosen)
    )
    return [cell for cell in cells if cell.given is not None]


def source_of(paper: Paper, dataset: str, data: Path | None) -> str | Path:
    """Return the file of a data set of a paper, or its name.

    Args:
        paper: The paper.
        dataset: One of its data sets.
        data: The folder of the data; None for names, which may have the graphs in another order
            and so in other folds.

    Raises:
        DatasetError: There is no such file in the folder, or no such name.
    """
    if data is None:
        if dataset not in paper.named:
            raise DatasetError(f"no name gives the graphs of {dataset}; name a folder with --data")
        return paper.named[dataset]
    places = paper.file(dataset)
    found = next((data / each for each in places if (data / each).is_file()), None)
    if found is None:
        raise DatasetError(
            f"{data} has no {dataset}, expected {' or '.join(map(str, places))}; leave it out "
            "with --datasets, or name another folder with --data"
        )
    return found


def read_data(paper: Paper, dataset: str, data: Path | None) -> GraphSet:
    """Read the graphs of a paper, see `source_of`.

    Raises:
        DatasetError: There is no such file or name, or it is malformed.
    """
    task = paper.tasks.get(dataset, "auto")
    graphs = load_dataset(source_of(paper, dataset, data), task=task)
    graphs.name = dataset
    if dataset not in paper.split_seeds:
        return graphs
    return graphs.with_split(
        split_by_class(graphs.y, paper.split_seeds[dataset]), f"{PER_CLASS} nodes of every class"
    )


def split_by_class(y: torch.Tensor, seed: int) -> torch.Tensor:
    """Draw a split as `class_rand_splits` of Luo et al. draws it, `(nodes,)`.

    Of the nodes of every class, in random order, the first 20 are for training; of the others, in
    random order, the first 500 for validation and the next 1000 for the test.
    """
    generator = torch.Generator().manual_seed(seed)

    def shuffled(nodes: torch.Tensor) -> torch.Tensor:
        return nodes[torch.randperm(len(nodes), generator=generator)]

    classes = [shuffled((y == label).nonzero().flatten()) for label in y[y >= 0].unique()]
    others = shuffled(torch.cat([nodes[PER_CLASS:] for nodes in classes]))
    split = torch.full((len(y),), -1, dtype=torch.int8)
    split[torch.cat([nodes[:PER_CLASS] for nodes in classes])] = 0
    split[others[:VALIDATED]] = 1
    split[others[VALIDATED : VALIDATED + TESTED]] = 2
    return split


def train(cell: Cell, graphs: GraphSet, out: Path, part: Part, workers: int, say: Say) -> None:
    """Train the trials of a part of a cell that have no outcome yet; each is kept at once.

    Args:
        cell: What to train.
        graphs: Its data.
        out: The folder of all cells.
        part: The part of it.
        workers: Trials at a time; 0 trains in this process.
        say: Told a line for every trial.

    Raises:
        RunExistsError: The folder has a run of other data or of another version, or is in use.
        GraphnormsError: A file is damaged.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what is done is kept.
    """
    folder = out / cell.folder
    restore(folder)
    options = cell.options(folder, max(1, workers))
    plan, config = prepare(graphs, options)
    with terminable(), Run(folder, config) as run:
        planned = Agenda(plan.schedule, run.journal).known()
        wanted = [each for each in planned if cell.wants(each, part)]
        missing = [each for each in wanted if each.key not in run.journal]
        done = len(wanted) - len(missing)
        say(f"{cell.title}: {done} of {len(wanted)} trials are there")
        if not missing:
            return
        engine = plan.engine(len(missing)) if workers else ThisProcess(*plan.work, None)
        with engine, closing(run.complete(engine, missing)) as records:
            for record in records:
                done += 1
                say(f"{cell.title}: {done} of {len(wanted)}, {_told(record)}")


def _told(record: Record) -> str:
    fold, run = record.config["split"].get("fold", 0), record.config["run"]
    place = f"{record.config['norm']}, fold {fold + 1}, run {run + 1}"
    if record.status != "done":
        return f"{place}: failed, {record.reason}"
    scored = "test_score" if record.config["stage"] == "final" else "validation_score"
    score, seconds = record.outcome[scored], record.timing["total"]
    return f"{place}: best {100 * score:.1f} at epoch {record.outcome['epoch']:g}, {seconds:.0f} s"


def trained(paper: Paper, part: Part, out: Path) -> Iterator[tuple[Cell, Comparison]]:
    """Yield what a folder has of a part of a paper, without training.

    Raises:
        GraphnormsError: A file is damaged.
    """
    for cell in cells_of(paper, part):
        folder = out / cell.folder
        restore(folder)
        if (folder / CONFIG).is_file() and (folder / RECORDS).is_file():
            found = open_comparison(folder)
            if found.records:
                yield cell, found


def cut_down(paper: Paper, out: Path) -> list[Part]:
    """Return what a folder has of a paper cut down to fewer epochs, by their number.

    Raises:
        GraphnormsError: A file is damaged.
    """
    found = (re.search(r"-(\d+)-epochs$", folder.name) for folder in out.glob("*-epochs"))
    parts = [Part(epochs=epochs) for epochs in sorted({int(match[1]) for match in found if match})]
    return [part for part in parts if any(trained(paper, part, out))]
