"""What is asked: frozen values that say it, and the pure functions that turn them into SQL."""

from .condition import TRUE, And, Compare, Condition, Not, Or, Predicate, conditions
from .fields import Field, Prop, field, prop, this
from .select import Aggregate, Dimension, Select, dimension

__all__ = [
    "TRUE",
    "Aggregate",
    "And",
    "Compare",
    "Condition",
    "Dimension",
    "Field",
    "Not",
    "Or",
    "Predicate",
    "Prop",
    "Select",
    "conditions",
    "dimension",
    "field",
    "prop",
    "this",
]
