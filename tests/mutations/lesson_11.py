"""The pitfalls of lesson 11, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/11_load_test.ipynb"
LOAD = "labkit/measure/load.py"
SENDER = "labkit/measure/sender.py"
PROCESSES = "labkit/servers/processes.py"
WRK = "labkit/measure/wrk.py"
RESULTS = "labkit/measure/results.py"
WEB = "labkit/concurrency/web.py"
PLOTS = "labkit/measure/plots/load.py"
SLIDER = "labkit/measure/plots/slider.py"
HISTOGRAM = "labkit/measure/histogram.py"
COUNTS = "labkit/concurrency/shared_counts.py"
EXECUTE = "scripts/notebooks.py"
EXERCISES = "labkit/lessons/lesson_11.py"

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "coordinated omission: a latency that counts from when its request was sent",
        SENDER,
        "self._latency.record_value(_us(now - due))",
        "self._latency.record_value(_us(now - sent))",
    ),
    (
        "an open loop in the lesson that is a closed one",
        NOTEBOOK,
        "stalled(rate=100)",
        "stalled()",
    ),
    (
        "an open loop that does not notice its last answer",
        SENDER,
        "is_over = self._all_due if self._has_rate else not self._may_send()",
        "is_over = time.perf_counter() >= self._ends",
    ),
    (
        "a request on a connection that the server has closed",
        SENDER,
        "        if connection in self._idle:\n            self._idle.remove(connection)\n",
        "",
    ),
    (
        "a latency of a failed request",
        SENDER,
        "if NO_ANSWER < status < 400:",
        "if NO_ANSWER < status:",
    ),
    (
        "half an answer that is taken for one",
        SENDER,
        "is_whole = error is None and self._has_head and not self._has_length",
        "is_whole = error is None and self._has_head",
    ),
    (
        "misses of a second load that were asked for by the first",
        SENDER,
        'itertools.count(task["first"])',
        "itertools.count()",
    ),
    (
        "a load that goes on without the one who has asked for it",
        PROCESSES,
        "    os._exit(1)  # nobody is there any more",
        "    return",
    ),
    (
        "load for another machine",
        LOAD,
        "if not all(ipaddress.ip_address(each).is_loopback for each in found):",
        "if not found:",
    ),
    (
        "a pattern of hits and misses that begins anew in each round",
        LOAD,
        'paths = tasks[name]["paths"][at:] + tasks[name]["paths"][:at]',
        'paths = tasks[name]["paths"]',
    ),
    (
        "all hits first, then all misses",
        LOAD,
        "[int((turn + 1) * ratio) > int(turn * ratio) for turn in turns]",
        "[turn < ratio.numerator for turn in turns]",
    ),
    (
        "a secret path among the arguments of a process",
        WRK,
        '"--script", str(script), target]',
        '"--script", str(script), target + path]',
    ),
    (
        "a run that wrk did not finish, read as one",
        WRK,
        'if not last or not last[0].startswith("labkit {"):',
        "if not last:",
    ),
    (
        "results that are written in place",
        RESULTS,
        "        unfinished.replace(file)\n",
        "        file.write_text(unfinished.read_text())\n",
    ),
    (
        "a shop that everybody on the machine can write to",
        WEB,
        """@app.post(f"/{task['secret']}/write")""",
        '@app.post("/write")',
    ),
    (
        "statements that are not counted",
        WEB,
        '            file.write(b".")',
        '            file.write(b"")',
    ),
    (
        "a web server that is taken for started before it answers",
        WEB,
        '        _status(f"http://127.0.0.1:{port}/")  # 404',
        "        pass  # 404",
    ),
    (
        "rates that are averaged, where times add up",
        NOTEBOOK,
        "return 1 / (h / hits.a_second + (1 - h) / misses.a_second)",
        "return h * hits.a_second + (1 - h) * misses.a_second",
    ),
    (
        "80 % hits that are 99 %",
        NOTEBOOK,
        r"""\"80 % hits\": mixed(hit, miss, 0.8)""",
        r"""\"80 % hits\": mixed(hit, miss, 0.99)""",
    ),
    (
        "misses that were asked for before",
        NOTEBOOK,
        r"""for visit in (0, \"{}\"))""",
        r"""for visit in (0, 0))""",
    ),
    (
        "a percentile that is one request too far",
        PLOTS,
        "        if seen >= rank:",
        "        if seen > rank:",
    ),
    (
        "a percentile whose rank is rounded down",
        LOAD,
        "rank = math.ceil(total * percentile / 100 - EXACT)",
        "rank = int(total * percentile / 100 + 0.5)",
    ),
    (
        "a histogram that keeps two digits only",
        HISTOGRAM,
        "EXACT_BITS = 11",
        "EXACT_BITS = 8",
    ),
    (
        "a percentile that is the lowest of its step",
        HISTOGRAM,
        "return step.value_iterated_to if percentile else _lowest(step.value_iterated_to)",
        "return _lowest(step.value_iterated_to)",
    ),
    (
        "a load that needs a library which not every machine can have",
        HISTOGRAM,
        "except ImportError:",
        "except ZeroDivisionError:",
    ),
    (
        "a library that is missing without a word",
        "labkit/cli.py",
        "    if histogram.note():\n        print(histogram.note())\n",
        "",
    ),
    (
        "another server than one asked for, without a word",
        WEB,
        "return Program(WAITRESS, target, why=why_not)",
        "return Program(WAITRESS, target)",
    ),
    (
        "a shop that other machines can ask",
        WEB,
        '"--bind", "127.0.0.1:0"',
        '"--bind", "0.0.0.0:0"',
    ),
    (
        "hits of all workers that are those of one",
        COUNTS,
        "            total[name] += NUMBER",
        "            total[name] = NUMBER",
    ),
    (
        "loads that are not counted where the cache calls them",
        WEB,
        "        told.count_load()\n",
        "",
    ),
    (
        "a slider that hits and misses the wrong way round",
        SLIDER,
        "((hits, ratio), (misses, 1 - ratio))",
        "((hits, 1 - ratio), (misses, ratio))",
    ),
    (
        "a slider that moves nothing",
        SLIDER,
        '    slider.observe(redraw, names="value")\n',
        "",
    ),
    (
        "a widget without a picture for where no widget can run",
        SLIDER,
        '        "image/png": base64.b64encode(first).decode(),\n',
        "",
    ),
    (
        "a widget's random name in a committed output",
        EXECUTE,
        '                output.get("data", {}).pop(WIDGET, None)\n',
        "                pass\n",
    ),
    (
        "a lesson that stops where data/ cannot be written to",
        RESULTS,
        '        return f"{said}\\n{NOT_SAVED}"',
        "        raise",
    ),
    (
        "an earlier run that is overwritten before it is compared with",
        RESULTS,
        "        earlier = saved(file)\n    except LabError:",
        "        save(runs, file)\n        earlier = saved(file)\n    except LabError:",
    ),
    (
        "writes that are taken for loads",
        NOTEBOOK,
        "loads = zipf.counted - len(written)",
        "loads = zipf.counted",
    ),
    (
        "an exercise that lets a list be sorted in place",
        EXERCISES,
        "            given = list(latencies)\n            shown",
        "            given = latencies\n            shown",
    ),
]
