#!/usr/bin/env python3
"""Reports of squeezing: one file that needs nothing else, well-formed, what names hold spelled, names of points that
cover no point and no other name, and pages of whatever is missing.

    test_report.py REPORT_DRAW"""
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

draw = sys.argv[1]
EVIL = 'a<script>alert("x")</script>&b'


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text, self.outside = [], set(), "", []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.outside += [v for k, v in attrs if k in ("src", "href", "action") or (v and "://" in v)]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data):
        self.text += data


def drawn(report, end, tmp, fails=0):
    source, out = os.path.join(tmp, "in"), os.path.join(tmp, "out" + end)
    with open(source, "w") as f:
        json.dump(report, f)
    r = subprocess.run([draw, source, out], stderr=subprocess.PIPE, timeout=60)
    assert r.returncode == fails, (r.returncode, r.stderr)
    if fails:
        return r.stderr.decode()
    with open(out, encoding="utf-8") as f:
        return f.read()


def page(report, tmp):
    p = Page()
    p.feed(drawn(report, ".html", tmp))
    p.close()
    assert not p.open and "script" not in p.tags and not p.outside, (p.open, p.tags, p.outside)
    return p


def text(name, kl):
    return {"text": name, "tokens": 1234, "windows": 5, "kl": kl, "kl_error": kl / 20, "median": kl / 2, "p90": kl * 2,
            "p99": kl * 9, "back": kl * 1.1, "same_top": 0.8125, "perplexity": 21.5, "base_perplexity": 20.25,
            "log_ppl_ratio": 0.0599, "log_ppl_ratio_error": 0.004}


def short(x):
    """Numbers to eight digits."""
    if isinstance(x, dict):
        return {k: short(v) for k, v in x.items()}
    return [short(v) for v in x] if isinstance(x, list) else float(f"{x:.8g}") if isinstance(x, float) else x


def whole():
    formats = [{"name": n, "by": by, "bytes": b * s, "kl": kl * s, "kl_error": kl / 30, "tokens_per_second": 2e10 / b,
                "this": by == "stretto" and n == "q5_0"}
               for by, s in (("stretto", 0.99), ("llama-quantize", 1.0))
               for n, b, kl in (("q4_0", 92e6, .22), ("iq4_nl", 91.7e6, .12), ("q4_k_m", 105.4e6, .05),
                                ("q5_0", 105.1e6, .058), ("q3_k_m", 93.5e6, .128), ("q8_0", 144e6, .002))]
    tensors = [{"name": f"blk.{i}.{EVIL}", "role": r, "from": "F32", "to": t, "from_bytes": 4e6, "bytes": 6e5,
                "error": {"kept": 0.002, "whole": 1.0}}
               for i in range(3) for r, t in (("attention q", "Q5_0"), ("feed-forward up", "Q4_0"))]
    return {"in": "/there/" + EVIL, "out": "/here/new.gguf", "goal": "--type " + EVIL, "bytes": 105e6,
            "from_bytes": 540e6, "bits": 6.2, "from_bits": 32.0, "tokens_per_second": 171.5,
            "from_tokens_per_second": 41.25, "seconds": 141.0, "peak_bytes": 4e8,
            "all": text("all", 0.0361), "texts": [text(EVIL, 0.031), text("code", 0.041)],
            "tensors": tensors, "formats": formats,
            "cache": "q8_0", "caches": [{"type": t, "bytes": b, "kl": kl, "kl_error": kl / 9, "p99": 5 * kl,
                                         "same_top": .9}
                                        for t, b, kl in (("f16", 11520, .0001), ("q8_0", 6120, .0021))],
            "task": {"name": "HellaSwag", "accuracy": .4, "low": .35, "high": .45, "tasks": 400, "base_accuracy": .41,
                     "base_low": .36, "base_high": .46, "flips": 31, "right_to_wrong": 17, "wrong_to_right": 12,
                     "mcnemar_p": 0.4583}}


def check_page(tmp):
    p = page(whole(), tmp)
    for said in ("new.gguf", EVIL, "105 MB", "19.4 % of 540 MB", "0.0361", "81.2 %", "171.5", "40.0 %", "+0.0599",
                 "blk.2.", "0.2 %", "llama-quantize", "HellaSwag: right, %, of 400 tasks", "31 answers",
                 "q8_0, recommended", "p = 0.46"):
        assert said in p.text, said
    assert "/there/" not in p.text and "/here/" not in p.text
    source = drawn(whole(), ".html", tmp)
    assert "prefers-color-scheme:dark" in source and "url(" not in source and "@import" not in source


def check_picture(tmp):
    svg = drawn(whole(), ".svg", tmp)
    root = ET.fromstring(svg)
    ns = "{http://www.w3.org/2000/svg}"
    assert not list(root.iter(ns + "script")) and "var(" not in svg
    wide, high = float(root.get("width")), float(root.get("height"))
    boxes = []
    for t in root.iter(ns + "text"):
        assert 0 <= float(t.get("x")) <= wide and 0 <= float(t.get("y")) <= high, t.attrib
        if "name" in (t.get("class") or "").split():
            x, y, w = float(t.get("x")), float(t.get("y")), 6.2 * len(t.text)
            boxes.append((x, y - 10, x + w, y + 1, t.text))
    assert len(boxes) >= 22, len(boxes)                      # of 24: none hides, or hardly any
    points = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(ns + "circle") if c.get("class") == "p0"]
    points += [(float(a), float(b) + 6) for a, b in re.findall(r'class="p1" d="M([0-9.]+) ([0-9.]+)l', svg)]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]), (a, b)
        assert not any(a[0] < x < a[2] and a[1] < y < a[3] for x, y in points), a


def check_parts(tmp):
    """Each part alone, nothing, and members that are not what they should be."""
    one = whole()
    for key in one:
        page({key: one[key]}, tmp)
        less = dict(one)
        del less[key]
        page(less, tmp)
        ET.fromstring(drawn({key: one[key]}, ".svg", tmp))
    for odd in ([], "x", -1, 1e308, None, {"kl": "x"}, [1, "y", None, {"kl": 1e300, "bytes": 1e300}] * 9):
        for key in one:
            page({**one, key: odd}, tmp)
            ET.fromstring(drawn({**one, key: odd}, ".svg", tmp))
    many = [dict(one["formats"][0], name=f"n{i}", bytes=1e6 * (i + 1)) for i in range(300)]
    page({"formats": many}, tmp)
    assert short(json.loads(drawn(one, ".json", tmp))) == short(one)
    assert "NAME.html" in drawn(one, ".pdf", tmp, fails=2)


with tempfile.TemporaryDirectory() as folder:
    check_page(folder)
    check_picture(folder)
    check_parts(folder)
