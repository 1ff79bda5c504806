"""What all commands have in common: names of options, hints in errors, completion."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
import typer

from graphnorms import cli
from graphnorms.cli import completion
from graphnorms.cli.app import app


def commands(group=None, path: str = "graphnorms") -> Iterator[tuple[str, object]]:
    """Every command that does something, by what is typed."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands())


def options() -> Iterator[tuple[str, object]]:
    for path, command in COMMANDS.items():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                yield path, parameter


def test_an_option_is_called_and_written_the_same_everywhere() -> None:
    forms: dict[str, tuple[bool, tuple[str, ...], str]] = {}
    for path, option in options():
        long = next(name for name in option.opts if name.startswith("--"))
        assert re.fullmatch(r"--[a-z]+(-[a-z]+)*", long), (path, long)
        form = (option.is_flag, tuple(option.opts), path)
        known = forms.setdefault(long, form)
        assert form[:2] == known[:2], f"{long}: as in {known[2]}, not as in {path}"


def test_every_option_and_argument_says_what_it_is() -> None:
    for path, command in COMMANDS.items():
        assert command.help, path
        for parameter in command.params:
            assert parameter.help, (path, parameter.name)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["comapre"], "Did you mean 'compare'?"),
        (["compare", "--protocl", "split"], "--protocol"),
        (["compare", "--folds", "ten"], "; graphnorms compare --help shows what there is"),
        (["compare", "MUTAG", "PTC"], "; graphnorms compare --help shows what there is"),
        (["bench"], "; graphnorms bench --help shows what there is"),
        (["bench", "lyers"], "Did you mean 'layers'?"),
        (["report"], "; graphnorms report --help shows what there is"),
        (["show", "MUTAG-gan"], "did you mean MUTAG-gin?"),
        (["show", "something-else"], "graphnorms runs lists what there is"),
        (["report", "MUTAG-gim"], "did you mean MUTAG-gin?"),
        (["norms", "grpah"], "did you mean graph"),
    ],
)
def test_errors_are_one_line_with_a_hint(
    monkeypatch, capsys, tmp_path, arguments: list[str], hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "MUTAG-gin").mkdir(parents=True)
    (tmp_path / "runs" / "MUTAG-gin" / "config.json").touch()
    monkeypatch.setattr(sys, "argv", ["graphnorms", *arguments])
    assert cli.main() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert hint in err


def completed(monkeypatch, capsys, line: str) -> list[str]:
    """What bash would offer when Tab is pressed at the end of a line."""
    monkeypatch.setenv("_GRAPHNORMS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    monkeypatch.setattr(sys, "argv", ["graphnorms"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("graphnorms re", ["report", "reproduce"]),
        ("graphnorms compare --proto", ["--protocol"]),
        ("graphnorms compare --protocol n", ["nested"]),
        ("graphnorms compare --budget ", ["quick", "standard", "full"]),
        ("graphnorms compare MU", ["MUTAG"]),
        ("graphnorms compare --norms gra", ["graph", "graph-size", "granola"]),
        ("graphnorms compare --norms none,batch,ba", []),
        ("graphnorms compare --norms none,mea", ["none,mean-subtraction"]),
        ("graphnorms norms pai", ["pair"]),
        ("graphnorms show MUT", ["MUTAG-gin"]),
        ("graphnorms report MUTAG-gin nci", ["nci5k-gine"]),
    ],
)
def test_the_shell_completes(monkeypatch, capsys, tmp_path, line: str, offered: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for run in ("MUTAG-gin", "nci5k-gine"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "config.json").touch()
    assert sorted(completed(monkeypatch, capsys, line)) == sorted(offered)


def test_a_folder_without_runs_completes_nothing(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert completion.runs("") == []
