#!/usr/bin/env python3
"""The load client against a stub: what it tells is what was sent, and what a server does wrong is noticed."""
import os
import sys

import drive

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENT, N = sys.argv[1], 100


def asked(i, **faults):
    return drive.raw("/v1/chat/completions", {"messages": [{"role": "user", "content": f"word{i}"}],
                                              "max_tokens": 8, "stream": True}, **faults)


def wrong(answers):
    """Numbers of the answers that are not the requests' own."""
    return [a["i"] for a in answers if a["how"] != "whole" or not a["done"] or a["tokens"] != 8
            or a["text"] != f" word{a['i']}\n\"" * 8]


def with_stub(mode, requests, at_once, patience=60):
    with drive.Server([sys.executable, os.path.join(HERE, "stub.py"), "{port}", mode]) as s:
        return drive.run(CLIENT, s.port, requests, at_once, patience)


good = with_stub("", [asked(i) for i in range(N)], 32)
assert len(good) == N and not wrong(good), wrong(good)
assert all(len(a["events"]) == 8 and a["prompt"] == 7 and a["cached"] == 3 for a in good)
assert all(a["begin"] <= a["first"] <= a["end"] and sorted(a["events"]) == a["events"] for a in good)
for mode in "mixed", "lost", "cut":
    bad = wrong(with_stub(mode, [asked(i) for i in range(N)], 32))
    assert len(bad) == N // 10, (mode, bad)
late = with_stub("slow", [asked(i) for i in range(10)], 10, patience=1.5)
assert [a["how"] for a in late].count("late") == 1, late

faults = with_stub("", [asked(0, close_events=3), asked(1, send=20, close_seconds=0.3), asked(2, pause=0.01),
                        drive.raw("/v1/chat/completions", None), asked(4, at=0.5)], 5)
assert [a["how"] for a in faults] == ["gone", "gone", "whole", "whole", "whole"], faults
assert len(faults[0]["events"]) in range(3, 9) and not faults[1]["events"] and not wrong([faults[2]])
assert faults[3]["status"] == 400 and 'no \\"body' in faults[3]["error"]
assert faults[4]["begin"] >= 0.5 and not wrong([faults[4]])
print("whole, mixed, lost, cut, late, gone and slow streams are told apart")
