"""Files of options: what they say, what wins, and that a run repeats its own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from graphnorms.errors import GraphnormsError
from graphnorms.lab.compare import compare
from graphnorms.lab.options import Options
from graphnorms.lab.repeat import with_file, write_run_file


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        (tmp_path / "run.toml").write_text(text, encoding="utf-8")
        return tmp_path / "run.toml"

    return write


def test_what_is_given_wins_over_the_file(write):
    file = write('dataset = "nci5k"\nepochs = 7\nengine = "dask"\ndrop_empty = true\nhidden = 8\n')
    dataset, options = with_file("MUTAG", Options(config=file, epochs=3, engine="local"))
    assert dataset == "MUTAG"
    assert (options.epochs, options.engine, options.hidden) == (3, "local", 8)
    assert options.drop_empty is True
    assert with_file(None, Options(config=file))[0] == "nci5k"


def test_a_flag_that_is_switched_off_wins_too(write):
    file = write("keep_loops = true\n")
    assert with_file(None, Options(config=file, keep_loops=False))[1].keep_loops is False
    assert with_file(None, Options(config=file))[1].keep_loops is True


def test_names_are_those_of_the_command_line_too(write):
    file = write("lr = [0.01, 0.1]\nnorm-place = 'after-activation'\n")
    _, options = with_file(None, Options(config=file))
    assert options.learning_rate == [0.01, 0.1]
    assert options.norm_place == "after-activation"


def test_a_table_says_what_slurm_is_asked_for(write):
    file = write('engine = "slurm"\n[engine_options]\npartition = "gpu"\ntime = 30\n')
    _, options = with_file(None, Options(config=file))
    assert options.engine_options == {"partition": "gpu", "time": 30}


def test_a_run_that_goes_on_is_not_planned_anew(write):
    file = write('time = "1h"\n')
    assert with_file(None, Options(config=file))[1].time == "1h"
    assert with_file(None, Options(config=file, resume=True))[1].time is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "run.toml: unknown option 'epoch'; did you mean epochs"),
        ("epochs = 'x'", "run.toml: epochs is 'x', expected an integer ≥ 1"),
        ("epochs = ", "run.toml is not TOML"),
        ("resume = true", "resume belongs on the command line"),
        ("dataset = 3", "dataset is 3, expected a name or a path"),
        ("protocol = 'nestd'", "unknown protocol 'nestd'; did you mean nested"),
    ],
)
def test_bad_files(write, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        with_file(None, Options(config=write(text)))
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(GraphnormsError, match="there is no file"):
        with_file(None, Options(config=tmp_path / "none.toml"))


@pytest.mark.parametrize(
    "dataset", ["MUTAG", 'a "quoted" \\ path', "Ünïcode ☃/data.npz", "tab\tand\nline\x7f\x01"]
)
def test_what_is_written_is_read_again(tmp_path, dataset):
    options = {
        "norms": ("none", "pair:scale=2"),
        "learning_rate": (1e-05, 3e-4, 0.01),
        "epochs": 3,
        "weight_decay": 0.0,
        "keep_loops": False,
        "device": dataset,
    }
    write_run_file(tmp_path / "run.toml", dataset, options)
    found = tomllib.loads((tmp_path / "run.toml").read_text(encoding="utf-8"))
    assert found == {"dataset": dataset} | {
        name: list(value) if isinstance(value, tuple) else value for name, value in options.items()
    }


def test_a_run_repeats_itself(tmp_path, in_this_process, stub_page):
    small = {"norms": "graph", "folds": 2, "epochs": 1, "learning_rate": 0.01, "hidden": 4}
    first = compare("MUTAG", **small, features="degree", layers=2, out=tmp_path / "first")
    assert len(in_this_process) == 4
    in_this_process.clear()
    again = compare(config=tmp_path / "first", out=tmp_path / "again")
    assert in_this_process == [record.key for record in first.records]
    assert again.settings == first.settings
    more = compare(config=tmp_path / "first" / "run.toml", norms="graph,batch", out=again.folder)
    assert len(in_this_process) == 4 + 2
    assert more.settings.norms == ("none", "graph", "batch")


def test_a_run_of_objects_has_no_file(tmp_path, in_this_process, stub_page):
    from graphnorms.data import load_dataset

    small = {"norms": "graph", "folds": 2, "epochs": 1, "learning_rate": 0.01, "hidden": 4}
    compare(load_dataset("MUTAG"), **small, out=tmp_path / "run")
    assert not (tmp_path / "run" / "run.toml").exists()
