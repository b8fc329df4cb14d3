"""Every Order or Customer as its history of events: append, fold, project."""

from .aggregate import Aggregates
from .handle import EntityHandle
from .projection import Projections
from .type import Entities, EntityType

__all__ = ["Aggregates", "Entities", "EntityHandle", "EntityType", "Projections"]
