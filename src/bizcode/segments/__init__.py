"""Sealed records: typed columns in Parquet files, their catalog, and its upkeep."""

from .catalog import Catalog, Column, Segment
from .store import SegmentStore

__all__ = ["Catalog", "Column", "Segment", "SegmentStore"]
