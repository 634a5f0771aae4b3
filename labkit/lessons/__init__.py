"""What makes a notebook a lesson: guesses, claims, and exercises that are checked."""

from labkit.lessons.evidence import Prediction, claim, predict
from labkit.lessons.exercises import check, hint, solution

__all__ = ["Prediction", "check", "claim", "hint", "predict", "solution"]
