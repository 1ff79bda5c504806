"""The command line: what it prints where, its exit codes, and bad input in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from graphnorms import cli
from graphnorms.lab.journal import read_records

SMALL = ["--norms", "none,graph", "--folds", "2", "--epochs", "1", "--workers", "1"]
COMMAND = [sys.executable, "-m", "graphnorms"]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command line in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["graphnorms", *arguments])
        code = cli.main()
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def stub_page(monkeypatch):
    """Write no real report: it takes seconds, and one test here and those of report/ look at it."""
    monkeypatch.setattr("graphnorms.report.page.write_page", lambda path, *_: path.touch())


def test_alone_it_shows_what_it_can_do(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    for command in ("graphnorms compare", "graphnorms norms", "graphnorms backends"):
        assert command in out


def test_every_command_explains_itself(run):
    for command in ([], ["compare"], ["norms"], ["backends"]):
        code, out, _ = run(*command, "--help")
        assert code == 0
        assert "Usage" in out


def test_the_version(run):
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("graphnorms ")


def test_the_catalogue_and_the_backends_are_listed(run):
    _, out, _ = run("norms")
    for name in ("none", "batch", "layer", "instance", "graph"):
        assert any(line.split()[:1] == [name] for line in out.splitlines())
    code, out, _ = run("backends")
    assert code == 0
    assert "reference runs" in out


def test_a_comparison_says_what_it_does_and_what_came_out(run, tmp_path):
    code, out, err = run("compare", *SMALL)
    assert (code, err) == (0, "")
    for words in (
        "MUTAG: 188 graphs",
        "2 norms (none, graph) × 2 folds = 4 trials, 1 at a time on cpu",
        "4/4  fold  1",
        "Accuracy: ",
        "Speed: ",
        "report:  runs/MUTAG-gin/report.html",
        "records: runs/MUTAG-gin/records.jsonl",
    ):
        assert words in out
    assert "\x1b" not in out, "no colours in a pipe"
    assert (tmp_path / "runs" / "MUTAG-gin" / "report.html").exists()

    code, again, _ = run("compare", *SMALL)
    assert code == 0
    assert "All 4 trials are done already." in again
    assert "fold  1" not in again
    assert again.partition("Accuracy:")[2] == out.partition("Accuracy:")[2]


@pytest.mark.usefixtures("stub_page")
def test_json_is_all_there_is_on_stdout(run):
    code, out, err = run("compare", *SMALL, "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["trials"] == {"planned": 4, "done": 4, "failed": 0}
    assert {row["norm"] for row in data["verdict"]["rows"]} == {"none", "graph"}
    assert data["command"].startswith("graphnorms compare MUTAG --norms none,graph")


@pytest.mark.usefixtures("stub_page")
def test_the_command_it_prints_repeats_the_comparison(run):
    _, out, _ = run("compare", *SMALL, "--json", "--lr", "1e-3")
    code, again, _ = run(*json.loads(out)["command"].split()[1:], "--json")
    assert code == 0
    assert json.loads(again)["verdict"] == json.loads(out)["verdict"]


@pytest.mark.usefixtures("stub_page")
def test_narrow_outputs_are_respected(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    for arguments in ([], ["norms"], ["compare", *SMALL]):
        _, out, _ = run(*arguments)
        lines = [line for line in out.splitlines() if not line.startswith(("report:", "records:"))]
        assert max(map(len, lines)) <= 60


BAD_INPUT = {
    "norm": (["--norms", "none,grpah"], "unknown norm 'grpah'; did you mean graph"),
    "norm twice": (["--norms", "none,none"], "norm 'none' is named more than once"),
    "no norm": (["--norms", ","], "no norms to compare"),
    "model": (["--model", "gan"], "unknown model 'gan'; did you mean gin"),
    "preset": (["--preset", "graphnorm"], "unknown preset 'graphnorm'; did you mean graphnorm-pa"),
    "data set": (["MUTTAG"], "unknown data set 'MUTTAG'; did you mean mutag"),
    "missing file": (["no/such/file.txt"], "no/such/file.txt"),
    "folds": (["--folds", "1"], "folds must be an integer ≥ 2; got 1"),
    "too many folds": (["--folds", "64"], "64 folds need 64 or more members of every class"),
    "folds in words": (["--folds", "ten"], "Invalid value for '--folds'"),
    "epochs": (["--epochs", "0"], "epochs must be an integer ≥ 1; got 0"),
    "learning rate": (["--lr", "-1"], "learning rate must be a number > 0; got -1.0"),
    "weight decay": (["--weight-decay", "nan"], "weight decay must be a number ≥ 0; got nan"),
    "batch size": (["--batch-size", "0"], "batch size must be an integer ≥ 1; got 0"),
    "workers": (["--workers", "0"], "workers must be an integer ≥ 1; got 0"),
    "device": (["--device", "toaster"], "device 'toaster' cannot be used"),
    "folder in use": (["--out", "here"], "here is not empty and holds no run"),
    "folder that cannot be": (["--out", "here/thesis.tex/run"], "thesis.tex"),
    "option": (["--fold", "3"], "No such option: --fold"),
    "a word too many": (["MUTAG", "PTC"], "PTC"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_line_on_stderr(run, tmp_path, arguments, message):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "thesis.tex").touch()
    code, out, err = run("compare", *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("graphnorms: ")
    assert message in err
    assert not (tmp_path / "runs").exists(), "nothing was begun"


def test_an_unknown_command_is_one_line(run):
    code, out, err = run("comapre")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "comapre" in err


@pytest.mark.usefixtures("stub_page")
def test_other_settings_are_refused_with_a_way_out(run):
    run("compare", *SMALL)
    code, _, err = run("compare", *SMALL, "--epochs", "2")
    assert code == 2
    assert err == (
        "graphnorms: runs/MUTAG-gin holds a run with other settings (epochs: 1 there, 2 here); "
        "choose another folder, e.g. --out runs/MUTAG-gin-2\n"
    )


def test_a_fault_of_ours_is_one_line_too_unless_asked(run, monkeypatch):
    def fault(*_, **__):
        raise KeyError("what")

    monkeypatch.setattr("graphnorms.data.load_dataset", fault)
    code, _, err = run("compare")
    assert code == 3
    assert err.count("\n") == 1
    assert "internal error, KeyError: 'what'" in err
    monkeypatch.setenv("GRAPHNORMS_TRACEBACK", "1")
    with pytest.raises(KeyError):
        run("compare")


def test_without_typer_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "typer", None)
    code, _, err = run()
    assert code == 2
    assert err == "graphnorms: the command line needs typer: pip install 'graphnorms[lab]'\n"


def test_without_a_library_of_the_lab_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)
    code, _, err = run("compare")
    assert code == 2
    assert err.count("\n") == 1
    assert "sklearn" in err
    assert "pip install 'graphnorms[lab]'" in err


def test_help_loads_nothing_heavy():
    script = (
        "import sys; sys.argv = ['graphnorms', '--help']; from graphnorms.cli import main; main();"
        "heavy = {'sklearn', 'scipy', 'bokeh', 'loky', 'jinja2'} & set(sys.modules);"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    """`graphnorms compare | head -n 1`"""
    process = subprocess.Popen(
        [*COMMAND, "compare", *SMALL],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("MUTAG: 188 graphs")
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_terminal_gets_colours_unless_no_color(tmp_path):
    def shown(**environment: str) -> str:
        done = subprocess.run(
            [*COMMAND],
            capture_output=True,
            text=True,
            env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", **environment},
        )
        return done.stdout

    assert "\x1b[1m" in shown()
    assert "\x1b[3" not in shown(NO_COLOR="1")


def test_an_output_that_takes_ascii_alone_gets_ascii(tmp_path):
    done = subprocess.run(
        [*COMMAND, "compare", *SMALL, "--out", "run"],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "4 trials" in done.stdout.decode("ascii")


@pytest.mark.skipif(os.name != "posix", reason="process groups and Ctrl-C are POSIX's")
@pytest.mark.usefixtures("stub_page")
def test_ctrl_c_ends_cleanly_and_the_same_command_continues(run, tmp_path):
    """Ctrl-C as a terminal sends it: to the whole process group, workers included."""
    arguments = ["compare", "--norms", "none,graph", "--folds", "5", "--epochs", "4"]
    command = [*COMMAND, *arguments, "--workers", "2"]
    records = tmp_path / "runs" / "MUTAG-gin" / "records.jsonl"
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _wait_until(lambda: records.exists() and records.read_bytes().count(b"\n") >= 2)
    os.killpg(process.pid, signal.SIGINT)
    start = time.monotonic()
    out, err = process.communicate(timeout=60)
    # 2 s on a machine with nothing else to do
    assert time.monotonic() - start < 10
    assert process.returncode == 130
    done = len(read_records(records))
    assert 2 <= done < 10
    assert err == (
        f"graphnorms: interrupted: {done} of 10 trials; run the same command again to continue\n"
    )
    assert "Accuracy: " in out, "what there is, is shown"
    _wait_until(lambda: not _group_exists(process.pid))

    code, out, _ = run(*arguments, "--workers", "1")
    assert code == 0
    assert f"{done} of the 10 trials are done already" in out
    lines = records.read_text().splitlines()
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == 10


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
