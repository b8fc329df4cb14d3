"""What runs in Spark needs pyspark to be imported, which `make test-scale` installs and `make test` doesn't."""

from importlib.util import find_spec

_SPARK = [
    "engine/spark/feed.py",
    "engine/spark/pieces.py",
    "engine/spark/streaming.py",
    "stream/distributed.py",
]
collect_ignore = [] if find_spec("pyspark") else [f"src/bizcode/{name}" for name in _SPARK]
