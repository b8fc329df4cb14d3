"""Are we on track? Targets, deadlines, projections."""

from .door import GoalDoor, Goals
from .progress import GoalPoint, Progress
from .reach import Reach

__all__ = ["GoalDoor", "GoalPoint", "Goals", "Progress", "Reach"]
