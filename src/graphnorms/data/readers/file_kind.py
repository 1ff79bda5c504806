"""Guesses the kind of a file that no reader accepts, and suggests a conversion."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

from graphnorms.data.text_format import as_name

ACCEPTED = (
    "a data set is a name, pyg:Class/name, a folder (TU format, OGB, nodes.csv and edges.csv, "
    "GraphML), a table of molecules (.csv, .tsv, .parquet), frames of atoms (.xyz), .graphml, "
    ".npz, a powerful-gnns text file (.gz or not), or module:factory"
)
_FACTORY = "read it in a function that returns a list of PyG Data, and give module:function"
_TABLE = "make it a table with a header, named .csv or .tsv"
_UNPACK = "unpack it and give the file or folder in it"

NO_DATA = ("a Git-LFS pointer", "a web page")
"""Kinds of files that hold no data, whatever their names say."""

# First bytes of a file, its kind, and what to do.
_MAGIC = (
    (b"version https://git-lfs", "a Git-LFS pointer, not the data", "fetch them with git lfs pull"),
    (b"PAR1", "a Parquet table", _FACTORY),
    (b"\x93NUMPY", "a single NumPy array; it holds one array", "save all of them by numpy.savez"),
    (b"\x89HDF", "an HDF5 file", _FACTORY),
    (b"MATLAB", "a MATLAB file", _FACTORY),
    (b"\x80\x02", "a pickle, which may be one of torch.save", _FACTORY),
    (b"\x80\x03", "a pickle", _FACTORY),
    (b"\x80\x04", "a pickle", _FACTORY),
    (b"\x80\x05", "a pickle", _FACTORY),
    (b"ARROW1", "an Arrow table", _FACTORY),
    (b"SQLite format 3", "an SQLite database", _FACTORY),
    (b"BZh", "packed by bzip2", _UNPACK),
    (b"\xfd7zXZ", "packed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed by Zstandard", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"\x1f\x8b", "packed by gzip, and what is in it is not text of numbers", _UNPACK),
    (b"%PDF", "a PDF", "give the data"),
    (b"\x89PNG", "a picture", "give the data"),
)
# First text of a file, its kind, and what to do.
_TEXT = (
    (rb"<!doctype html|<html", "a web page, as of a download that failed", "download it again"),
    (rb"<\?xml|<graphml|<gexf", "GraphML or other XML", _FACTORY),
    (rb"[{\[]", "JSON", _FACTORY),
    (rb"graph\s*\[", "GML", _FACTORY),
    (rb"(strict\s+)?(di)?graph\s*\w*\s*\{", "a DOT file", _FACTORY),
    (rb"%%matrixmarket", "a Matrix Market file", _FACTORY),
    (rb"\*vertices", "a Pajek file", _FACTORY),
)
_NAMES = {
    ".tab": "a table with tabs",
    ".smi": "a list of SMILES",
    ".sdf": "molecules in SDF",
    ".mol": "a molecule",
    ".mol2": "molecules",
    ".pdb": "a protein",
    ".cif": "a crystal",
    ".g6": "graphs in graph6",
    ".edgelist": "a list of edges",
    ".yaml": "YAML",
    ".yml": "YAML",
}


def what_it_seems(path: Path) -> str:
    """Describe the kind of a file and what to do with it; empty for text that begins with a number.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _described(*_archive(path))
    if head.startswith(b"\x1f\x8b"):
        try:
            inside = zlib.decompressobj(31).decompress(head, 1 << 16)
        except zlib.error:
            return ""  # the reader reports the damage
        seems = _by_content(inside, Path(path.name.lower().removesuffix(".gz")))
        return f"packed by gzip, and inside {seems}" if seems else ""
    return _by_content(head, path)


def _by_content(head: bytes, path: Path) -> str:
    for magic, kind, way in _MAGIC:
        if head.startswith(magic):
            return _described(kind, way)
    if head[257:262] == b"ustar":
        return _described("a tar archive", _UNPACK)
    if b"\0" in head:
        return _described("no text", _FACTORY)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, kind, way in _TEXT:
        if re.match(pattern, start, re.IGNORECASE):
            return _described(kind, way)
    line = start.split(b"\n", 1)[0].strip()
    if re.fullmatch(rb"\d+", line):
        return ""  # the number of graphs
    if (suffix := path.suffix.lower()) in _NAMES:
        return _described(_NAMES[suffix], _TABLE if suffix in (".smi", ".tab") else _FACTORY)
    fields = [line.count(mark) for mark in (b",", b"\t", b";")]
    if any(fields) and not re.fullmatch(rb"[-+.\deE,;\s]*", line):
        return _described("a table, whose first line is " + _shown(line), _TABLE)
    if re.match(rb"[A-Za-z]", line):
        return _described("text that begins with " + _shown(line), _FACTORY)
    return ""


def _archive(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # the reader of .npz files reports the damage
        return "", ""
    if any(name.endswith("data.pkl") for name in names):
        return "a file of torch.save", "load it in a function and give module:function"
    if any(name.endswith(".npy") for name in names):
        return "", ""
    if any(name.startswith("xl/") for name in names):
        return "an Excel sheet", _FACTORY
    return f"a zip archive of {len(names)} files", _UNPACK


def _described(kind: str, way: str) -> str:
    return f"{kind}; {way}" if kind else ""


def _shown(line: bytes) -> str:
    text = as_name(line.decode("utf-8", errors="replace"))
    return repr(text if len(text) <= 40 else text[:40] + "…")
