"""Predictions and claims: the words that they print, and that a false claim cannot pass."""

from __future__ import annotations

import pytest

import labkit
from labkit import claim, predict


def test_a_prediction_prints_its_question_and_the_guess(capsys):
    predict("How many statements?", 100)
    assert capsys.readouterr().out == "How many statements?\nYour guess: 100\n"


@pytest.mark.parametrize(
    ("guess", "actual", "because", "words"),
    [
        (1, 1, "", "You said 1, and so it was.\n"),
        (1, 1, "it was cached", "You said 1, and so it was: it was cached.\n"),
        (100, 4001, "", "You said 100. It was 4,001.\n"),
        (4001, 4001, "one a user", "You said 4,001, and so it was: one a user.\n"),
        (True, False, "it expired", "You said True. It was False: it expired.\n"),
        ("hit", "miss", "", "You said hit. It was miss.\n"),
        (None, 0, "", "You said None. It was 0.\n"),
        (0.5, 0.8, "", "You said 0.5. It was 0.8.\n"),
        ([1, 2], [1, 2], "", "You said [1, 2], and so it was.\n"),
    ],
)
def test_revealing_puts_the_guess_beside_what_happened(capsys, guess, actual, because, words):
    prediction = predict("?", guess)
    capsys.readouterr()
    prediction.reveal(actual, because)
    assert capsys.readouterr().out == words


def test_a_prediction_is_made_before_its_evidence_and_cannot_change():
    with pytest.raises(AttributeError):
        predict("?", 1).guess = 2  # type: ignore[misc]


def test_revealing_returns_nothing_that_a_notebook_would_print():
    assert predict("?", 1).reveal(1) is None  # type: ignore[func-returns-value]
    assert claim("it holds", True) is None  # type: ignore[func-returns-value]


def test_a_claim_that_holds_gets_a_tick(capsys):
    claim("a hit runs no SQL", True)
    assert capsys.readouterr().out == "✓ a hit runs no SQL\n"


@pytest.mark.parametrize("measured", [True, None], ids=["measured", "by default"])
def test_a_claim_that_does_not_hold_raises_and_prints_no_tick(capsys, measured):
    options = {} if measured is None else {"measured": measured}
    with pytest.raises(AssertionError, match=r"^this run does not show that a hit runs no SQL$"):
        claim("a hit runs no SQL", False, **options)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("holds", [True, False])
def test_a_claim_that_was_not_measured_gets_no_tick_and_does_not_raise(capsys, holds):
    claim("a hit is ten times as fast", holds, measured=False)
    printed = capsys.readouterr().out
    assert printed == "– not measured here: a hit is ten times as fast\n"


@pytest.mark.parametrize("choice", ["fake", "auto"])
def test_whether_time_can_be_claimed_depends_on_the_server(choice, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    monkeypatch.delenv("LABKIT_REDIS", raising=False)
    with labkit.start(choice, "sqlite", users=5, orders=5) as lab:
        capsys.readouterr()
        claim("time passes", True, measured=lab.server.is_real)
    expected = "– not measured here: " if choice == "fake" else "✓ "
    assert capsys.readouterr().out == f"{expected}time passes\n"
