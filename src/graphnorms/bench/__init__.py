"""The benchmark suite: numbers are checked first, contenders alternate, a result is one file.

`suite.run` is the way in. A benchmark (`layers`, `calls`, `memory`, `epoch`, `scaling`, `lab`)
turns `Settings` into `Case`s; `results` keeps them, and `tables`, `plots` and `page` show what is
kept.
"""

from graphnorms.bench.results import Case, Result
from graphnorms.bench.settings import Settings, Shape
from graphnorms.bench.suite import BENCHMARKS, run

__all__ = ["BENCHMARKS", "Case", "Result", "Settings", "Shape", "run"]
