"""Guess first, then look; and say only what the run has shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """A guess that was made before its evidence."""

    guess: object

    def reveal(self, actual: object, because: str = "") -> None:
        """Print the guess beside what happened.

        Args:
            actual: what the run has shown, in the form of the guess.
            because: a few words on how it came about.
        """
        reason = f": {because}" if because else ""
        if self.guess == actual:
            print(f"You said {_words(self.guess)}, and so it was{reason}.")
        else:
            print(f"You said {_words(self.guess)}. It was {_words(actual)}{reason}.")


def predict(question: str, guess: object) -> Prediction:
    """Print a question and the guess; change the guess to your own before you run the cell."""
    print(f"{question}\nYour guess: {_words(guess)}")
    return Prediction(guess)


def claim(sentence: str, holds: bool, measured: bool = True) -> None:
    """Print the sentence with a tick if it holds, and raise otherwise.

    Args:
        sentence: what this lesson has shown.
        holds: whether this run shows it.
        measured: whether this run can say: `lab.server.is_real` for a claim about time. Where it
            cannot, the sentence is printed as not measured here, and nothing is claimed.

    Raises:
        AssertionError: the run does not show it.
    """
    if not measured:
        print(f"– not measured here: {sentence}")
    elif holds:
        print(f"✓ {sentence}")
    else:
        raise AssertionError(f"this run does not show that {sentence}")


def _words(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
