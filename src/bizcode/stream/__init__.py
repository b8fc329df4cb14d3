"""React to what happens, in event time: `biz.stream`."""

from .pipeline import Pipeline
from .source import Streams

__all__ = ["Pipeline", "Streams"]
