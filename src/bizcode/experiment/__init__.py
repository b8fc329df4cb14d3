"""Is this working? `biz.experiment`: assignment, exposure, attribution and results that can be trusted."""

from .door import Activation, Experiment, Experiments
from .results import DayResults, Results, VariantResult

__all__ = ["Activation", "DayResults", "Experiment", "Experiments", "Results", "VariantResult"]
