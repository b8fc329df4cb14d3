"""The sealed history: typed columns in Parquet files, the catalog that names them, and their upkeep."""

from .catalog import Catalog, Segment
from .schema import Column, Schema
from .store import Compacted, SegmentStore

__all__ = ["Catalog", "Column", "Compacted", "Schema", "Segment", "SegmentStore"]
