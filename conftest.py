"""What runs in Spark needs pyspark to be imported, which `make test-scale` installs and `make test` doesn't."""

from importlib.util import find_spec

_SPARK = [
    *(f"engine/spark/{name}.py" for name in ("feed", "joins", "pieces", "streaming", "windows")),
    *(f"stream/{name}.py" for name in ("distributed", "distributed_joins", "distributed_windows")),
]
collect_ignore = [] if find_spec("pyspark") else [f"src/bizcode/{name}" for name in _SPARK]
