"""Runs plans: DuckDB over the sealed segments and the followed tail."""

from .engine import Engine, Session
from .relation import Column, Relation

__all__ = ["Column", "Engine", "Relation", "Session"]
