from __future__ import annotations

import pytest

from graphnorms.lab.phrases import dataset_title


@pytest.mark.parametrize(
    ("dataset", "title"),
    [
        ("MUTAG", "MUTAG"),
        ("/home/someone/data/MUTAG/raw", "MUTAG"),
        ("/home/someone/data/MUTAG/raw/", "MUTAG"),
        ("data/MUTAG/processed", "MUTAG"),
        ("~/MUTAG/MUTAG.txt", "MUTAG"),
        ("../esol.npz", "esol"),
        ("esol.npz", "esol"),
        ("IMDB-BINARY.v2", "IMDB-BINARY.v2"),
        ("raw", "raw"),
        ("my_data:make", "my_data:make"),
        ("/home/someone/my_data.py:make", "my_data.py:make"),
        (".", "."),
    ],
)
def test_a_data_set_is_called_as_a_person_would(dataset: str, title: str) -> None:
    assert dataset_title(dataset) == title
