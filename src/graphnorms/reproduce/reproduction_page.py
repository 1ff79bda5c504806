"""The page of a reproduced paper: tables, figures and what they say, never typed by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from graphnorms.errors import GraphnormsError
from graphnorms.files import fill_slots, replacing, slots_of
from graphnorms.lab.phrases import several
from graphnorms.reproduce.kept_records import PACKED, keep
from graphnorms.reproduce.outcome import Outcome
from graphnorms.reproduce.paper_runs import Part, cut_down, trained
from graphnorms.reproduce.published_values import PAPERS, SCRIPT, Paper
from graphnorms.reproduce.reproduction_figures import FIGURES
from graphnorms.reproduce.reproduction_tables import recalled_note
from graphnorms.studies.drawing import drawn, write
from graphnorms.studies.study import Settings
from graphnorms.studies.study_list import TOPICS
from graphnorms.studies.study_results import PNG, RESULT, SVG, load, own_folder

_SLOTS: Final = r"reproduce: \w+"
_SELECTIONS: Final = {
    "paper": "*The paper's selection* is the single epoch with the best validation accuracy "
    "averaged over the folds, quoted with the standard deviation over the folds there: the graphs "
    "that choose it measure it, so that it is optimistic.",
    SCRIPT: "*The script's settings*: for GraphNorm on this data set the authors published a "
    "script, whose settings depart from the protocol as told below; here the other norms are "
    "trained with them, too. The epoch is selected as in the paper. Where there are such settings, "
    "values are judged by them.",
    "nested": "*Honest selection*: in every fold the epoch is chosen by the accuracy on a tenth of "
    "the training graphs, so that a tenth fewer are trained on, and the score is that of the fold "
    "at that epoch, which chose nothing; all else is the same.",
    "split": "The score is that on the test nodes at the epoch with the best score on the "
    "validation nodes.",
}


def write_page(outcome: Outcome, out: Path) -> Path:
    """Write the page of a paper and its figures into the folder of its comparisons.

    Raises:
        OSError: A file cannot be written.
    """
    body = _body(outcome, out, out, [out / "studies"])
    page = out / f"page{outcome.suffix}.md"
    with replacing(page) as temporary:
        temporary.write_text(f"# {outcome.paper.title}\n\n{body}\n", encoding="utf-8")
    return page


def fill(page: Path, results: Path) -> list[Path]:
    """Keep records and figures in the folder beside a page, and fill in its slots.

    A slot is `<!-- reproduce: graphnorm -->` … `<!-- end -->`. The records are small enough to be
    committed; the same folder goes on from them, see `graphnorms.reproduce.kept_records`.

    Args:
        page: The page.
        results: The folder with a folder for each paper; that beside the page fills it in again.

    Returns:
        The packed records.

    Raises:
        GraphnormsError: The page has no slot, there are no results, or a file is damaged.
        OSError: A file cannot be read or written.
    """
    for slot in slots_of(page, _SLOTS):
        _paper_of(slot, page)
    copies, kept = page.with_suffix(""), []
    for name, paper in PAPERS.items():
        for part in (Part(), *cut_down(paper, results / name)):
            for cell, comparison in trained(paper, part, results / name):
                folder = copies / name / cell.folder
                keep(comparison.folder, folder)
                kept.append(folder / PACKED)
    if not kept:
        raise GraphnormsError(
            f"{results} has no trials of {' or '.join(PAPERS)}; train them with: graphnorms "
            f"reproduce NAME --out {results}/NAME"
        )

    def body(slot: str) -> str | None:
        paper = _paper_of(slot, page)
        folder = copies / paper.name
        parts = (Part(), *cut_down(paper, folder))
        part = next((each for each in parts if any(trained(paper, each, folder))), None)
        if part is None:
            return None
        studies = [results / paper.name / "studies", page.parent / "studies"]
        return _body(Outcome.of(paper, folder, part), folder, page.parent, studies)

    fill_slots(page, _SLOTS, body)
    return kept


def _paper_of(slot: str, page: Path) -> Paper:
    name = slot.removeprefix("reproduce: ")
    if name not in PAPERS:
        raise GraphnormsError(f"{page}: no paper {name}, expected {' or '.join(PAPERS)}")
    return PAPERS[name]


def _body(outcome: Outcome, folder: Path, base: Path, studies: Iterable[Path]) -> str:
    """Return the text of a paper, with figures written into a folder; links are from `base`."""
    paper = outcome.paper
    parts = [
        f"{paper.title}. Source: {paper.source}.",
        f"```sh\ngraphnorms reproduce {paper.name} --data FOLDER\n```",
        f"**{outcome.conclusion}**",
        f"*Protocol.* {paper.protocol} {' '.join(_SELECTIONS[each] for each in paper.protocols)}",
        f"*Departures.* {paper.departures}",
        "*Differences* to a published value, which is known by its mean and standard deviation "
        "alone (± is that over the folds, splits or seeds), have the interval of two independent "
        "samples (Welch). On the authors' folds or splits the two are not independent, and "
        "the interval is rather too wide. Differences between norms trained here are paired; over "
        "folds and splits their interval is corrected for training sets that overlap (Nadeau & "
        "Bengio).",
    ]
    parts += _tables(outcome, "###")
    cut = cut_down(paper, folder) if outcome.epochs is None else []
    shorter = [Outcome.of(paper, folder, part) for part in cut]
    for less in shorter:
        title = f"### Cut down to {several(less.epochs or 0, 'epoch')}"
        parts += [title, less.conclusion, *_tables(less, "####")]
    parts += [note] if (note := recalled_note(outcome.rows)) else []
    parts += _figures(outcome, folder, base)
    parts += [_study(name, studies, folder, base) for name in paper.studies]
    parts.append(_circumstances([outcome, *shorter]))
    return "\n\n".join(parts)


def _tables(outcome: Outcome, level: str) -> list[str]:
    return [f"{level} {table.title}\n\n{table.as_markdown()}" for table in outcome.tables()]


def _figures(outcome: Outcome, folder: Path, base: Path) -> list[str]:
    texts = []
    for name in outcome.paper.figures:
        draw, words = FIGURES[name]
        if (figure := drawn(draw, outcome)) is None:
            continue
        file = folder / f"{name}{outcome.suffix}"
        write(figure, file)
        file.with_suffix(".png").unlink()
        at = file.with_suffix(".svg").relative_to(base).as_posix()
        texts.append(f"![{name}]({at})\n\n{words}")
    return texts


def _study(name: str, folders: Iterable[Path], copies: Path, base: Path) -> str:
    """Return finding and figure of a study on the paper's data, from the first folder with one.

    A figure that does not lie below `base` is copied. Where there is none, say how to measure it.
    """
    for studies in folders:
        for data in (Path("data"), None):
            own = own_folder(studies / name, Settings(data=data))
            if not (own / RESULT).is_file():
                continue
            result = load(own)
            picture = own / (SVG if (own / SVG).is_file() else PNG)
            if not picture.is_relative_to(base):
                copy = copies / f"{name}{picture.suffix}"
                with replacing(copy) as temporary:
                    temporary.write_bytes(picture.read_bytes())
                picture = copy
            finding = result.finding
            return "\n\n".join(
                [
                    f"### {TOPICS[name]}",
                    f"*{finding.verdict}* by the rule of `graphnorms study {name}"
                    f"{' --data FOLDER`, on the sets of the papers' if data else '`'}. "
                    f"{finding.statement}",
                    *(f"{table.title}:\n\n{table.as_markdown()}" for table in finding.tables),
                    f"![{name}]({picture.relative_to(base).as_posix()})",
                ]
            )
    return (
        f"### {TOPICS[name]}\n\n"
        f"Not measured here; `graphnorms study {name} --data FOLDER` measures it."
    )


def _circumstances(outcomes: Iterable[Outcome]) -> str:
    every = [comparison.trials for outcome in outcomes for _, comparison in outcome.found]
    hours = sum(trials.total_seconds for trials in every) / 3600
    where: dict[str, None] = {}
    for trials in every:
        for name, title in (("processor", ""), ("torch", "torch "), ("graphnorms", "graphnorms ")):
            value = trials.environment.get(name) or []
            where |= {
                f"{title}{each}": None for each in (value if type(value) is list else [value])
            }
    return (
        f"{sum(len(trials.every) for trials in every)} trials that took {hours:.1f} hours together "
        f"({', '.join(where)}). Training is chaotic: another processor, or another version of the "
        "kernels, rounds differently, and moves a fold's accuracy by a graph or two."
    )
