"""The benchmark suite: numbers are checked first, contenders alternate, a result is one file.

`suite.run` runs a benchmark, which turns `Settings` into `Case`s; `results` reads and writes them;
`tables`, `plots` and `benchmarks_page` show them.
"""

from graphnorms.bench.bench_settings import Settings, Shape
from graphnorms.bench.results import Case, Result
from graphnorms.bench.suite import BENCHMARKS, run

__all__ = ["BENCHMARKS", "Case", "Result", "Settings", "Shape", "run"]
