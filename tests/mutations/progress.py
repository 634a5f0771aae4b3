# ruff: noqa: E501
"""Progress, reset and unasked hints, kept and broken: what, file, both texts, the tests that tell."""

from __future__ import annotations

EXERCISES = "labkit/lessons/exercises.py"
PROGRESS = "labkit/lessons/progress.py"
RESET = "labkit/lessons/reset.py"
THE_HINTS = ("tests/test_exercises.py",)
THE_PROGRESS = ("tests/test_progress.py",)
THE_RESET = ("tests/test_reset.py",)

MUTATIONS: list[tuple[str, str, str, str, tuple[str, ...]]] = [
    (
        "only new wrong answers bring a hint",
        EXERCISES,
        "        _wrong_since_hint[exercise_id] += 1\n",
        "        _wrong_since_hint[exercise_id] += message not in _troubles_said\n        _troubles_said.add(message)\n",
        THE_HINTS,
    ),
    (
        "a hint that was asked for does not begin the count anew",
        EXERCISES,
        "    _wrong_since_hint[exercise_id] = 0\n    if given",
        "    _wrong_since_hint[exercise_id] %= PATIENCE\n    if given",
        THE_HINTS,
    ),
    (
        "a right answer does not begin it anew",
        EXERCISES,
        "        _wrong_since_hint[exercise_id] = 0\n        _note",
        "        _note",
        THE_HINTS,
    ),
    (
        "code that raises counts as wrong",
        EXERCISES,
        "elif outcome is Outcome.WRONG:",
        "elif outcome is not Outcome.NOT_ATTEMPTED:",
        THE_HINTS,
    ),
    (
        "that progress is not kept is said each time",
        EXERCISES,
        "            _troubles_said.add(trouble)\n",
        "",
        THE_HINTS,
    ),
    (
        "a folder that is no folder breaks a check",
        EXERCISES,
        "    except LabError as error:\n",
        "    except KeyError as error:\n",
        THE_HINTS,
    ),
    (
        "other users can see what is solved",
        PROGRESS,
        "each.mkdir(mode=0o700, parents",
        "each.mkdir(parents",
        THE_PROGRESS,
    ),
    (
        "the first kernel to make the folder is the only one to note anything",
        PROGRESS,
        "parents=True, exist_ok=True)",
        "parents=True)",
        THE_PROGRESS,
    ),
    (
        "progress depends on where a kernel runs",
        PROGRESS,
        "if not path.is_absolute():",
        "if False:",
        THE_PROGRESS,
    ),
    (
        "a notebook breaks where progress cannot be read",
        PROGRESS,
        "    except LabError as error:\n",
        "    except KeyError as error:\n",
        THE_PROGRESS,
    ),
    (
        "who leaves out an exercise is not led on",
        PROGRESS,
        "every[last + 1 :] + every",
        "every",
        THE_PROGRESS,
    ),
    (
        "files of others are forgotten too",
        PROGRESS,
        "if EXERCISE.fullmatch(name)}",
        "}",
        THE_PROGRESS,
    ),
    (
        "an earlier copy is overwritten",
        RESET,
        'open(path, "xb")',
        'open(path, "wb")',
        THE_RESET,
    ),
    (
        "a learner's own repository is taken for the course",
        RESET,
        'if f"labkit/lessons/lesson_{number}.py" in paths:',
        "if True:",
        THE_RESET,
    ),
    (
        "any repository of another user is trusted",
        RESET,
        "return root if history.stat().st_uid == LABKITS.stat().st_uid else None",
        "return root",
        THE_RESET,
    ),
    (
        "labkit's own checkout is not asked",
        RESET,
        "for folder in (place.resolve(), LABKITS):",
        "for folder in (place.resolve(),):",
        THE_RESET,
    ),
    (
        "a variable of git leads elsewhere",
        RESET,
        'if not name.startswith("GIT_")',
        "if True",
        THE_RESET,
    ),
    (
        "half a copy is left",
        RESET,
        "        copy.unlink()  # half a copy is none\n",
        "",
        THE_RESET,
    ),
    (
        "an unfinished notebook is left",
        RESET,
        "        unfinished.unlink(missing_ok=True)\n",
        "        pass\n",
        THE_RESET,
    ),
    (
        "a read-only notebook is replaced",
        RESET,
        "if before is not None and not os.access(notebook, os.W_OK):",
        "if False:",
        THE_RESET,
    ),
    (
        "a notebook that is the same is copied",
        RESET,
        "if before is not None and _is_same(before, delivered):",
        "if before == delivered:",
        THE_RESET,
    ),
]
