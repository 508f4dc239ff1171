#!/usr/bin/env python3
"""Writes tests/data/template_vectors.jsonl: small templates and what Jinja makes of them.

    python3 tools/make_template_vectors.py > tests/data/template_vectors.jsonl     (needs jinja2)

The templates are those of tests/data/template_snippets.jsonl, one JSON string a line, and
random ones.
Rendered as transformers render chat templates: ImmutableSandboxedEnvironment with trim_blocks,
lstrip_blocks and loop controls, their tojson, raise_exception and strftime_now. A line holds the
template and either the text or the error; the first line holds the variables of all.
With --random N SEED it prints N random expressions instead, for a longer comparison."""
import copy
import datetime
import json
import pathlib
import random
import re
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

SNIPPETS = pathlib.Path(__file__).parent.parent / "tests/data/template_snippets.jsonl"
NOW = datetime.datetime(2024, 7, 26, 12, 5, 9)
SHARED = {
    "a": 7, "b": -3, "f": 2.5, "z": 0, "s": "Hello World", "e": "", "u": "Grüße, Ωμέγα ß ﬁn 日本 🎉",
    "w": "  a  b\tc \n", "t": True, "n": None, "l": [3, 1, 2], "m": ["b", "A", "c", "a"],
    "d": {"x": 1, "y": [1, 2], "items": "shadow", "z": None},
    "users": [{"name": "Zoe", "age": 30, "tags": ["p", "q"], "on": True},
              {"name": "adam", "age": 25, "tags": [], "on": False},
              {"name": "Bea", "age": 30, "tags": ["q"]}],
    "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U <&>"},
                 {"role": "assistant", "content": None, "tool_calls": [{"function": {
                     "name": "f", "arguments": {"k": 1.5, "é": "\u2028\"\\\n"}}}]}],
}

# Jinja answers the empty text to these; stretto refuses them, because they can only be mistakes:
# slices of constants that are no sequences, an empty subscript, a comment or raw that never ends.
STRICTER = ["{{ none[1:] }}", "{{ a[] }}", "{#", "{% raw %}"]


class TemplateError(Exception):
    pass


def environment():
    class Generation(jinja2.ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

        def _run(self, caller):
            return caller()

    def raise_exception(message):
        raise TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, "jinja2.ext.loopcontrols"])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


ENV = environment()


def row(template):
    if template in STRICTER:
        return {"template": template, "error": "stricter than Jinja"}
    out = {"template": template}
    try:
        text = ENV.from_string(template).render(**copy.deepcopy(SHARED))   # |indent changes a list
        text.encode()
        if " at 0x" in text:
            return None
        out["expected"] = text
    except Exception as e:                     # whatever Jinja or Python raised is the answer
        out["error"] = f"{type(e).__name__}: {e}"[:200]
    return out


class Random:
    """Expressions that are often, not always, meaningful."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def pick(self, *xs):
        return self.r.choice(xs)

    def atom(self):
        return self.pick("a", "b", "f", "z", "s", "e", "u", "w", "t", "n", "l", "m", "d", "users",
                         "messages", "0", "1", "2", "-1", "1.5", "'x'", "'a,b'", "''", "true",
                         "none", "[1, 2, 3]", "{'k': 1}", "(1, 2)", "qq", "range(4)|list", "'Ünï cödé'",
                         "[]", "'{}-{}'", "1e3")

    def filter(self):
        return self.pick("upper", "lower", "title", "capitalize", "trim", "length", "string", "int",
                         "float", "list", "first", "last", "sort", "unique|list", "reverse|list",
                         "join(',')", "join", "min", "max",
                         "tojson", "tojson(indent=2)", "default('D')", "default('D', true)", "e",
                         "map('upper')|list", "map(attribute='name')|list", "select|list",
                         "reject('none')|list", "selectattr('on')|list", "items|list", "dictsort",
                         "indent",
                         "replace('a', 'b')", "sort(reverse=true)", "groupby('age')|length",
                         "rejectattr('on', 'defined')|list",
                         "map('string')|join('|')")

    def test(self):
        return self.pick("defined", "undefined", "none", "string", "number", "integer", "float",
                         "mapping", "sequence", "iterable", "boolean", "true", "false", "odd",
                         "even", "divisibleby 2", "in [1, 'x']", "eq 1", "gt 0", "callable")

    def method(self):
        return self.pick(".upper()", ".strip()", ".split()", ".split(',')", ".items()|list",
                         ".keys()|list", ".get('k')", ".get('x', 3)", ".replace('l', '')",
                         ".title()", ".find('o')", ".startswith('H')", ".x", ".name", ".0", "[0]",
                         "[-1]", "['x']", "[1:]", "[:2]", "[::-1]", "[1]", ".count('l')",
                         ".values()|list", ".splitlines()", ".isdigit()", ".rsplit(' ', 1)",
                         ".capitalize()", ".rstrip()")

    def expr(self, depth):
        if depth == 0:
            return self.atom()
        k = self.r.randrange(10)
        one = lambda: self.expr(depth - 1)
        if k < 2:
            return f"{one()} {self.pick('+', '-', '*', '/', '//', '~', '~', '+')} {one()}"
        if k == 2:
            return f"({one()} {self.pick('==', '!=', '<', '>=', 'in', 'not in', 'and', 'or')} {one()})"
        if k == 3:
            return f"({one()} if {one()} else {one()})"
        if k < 6:
            return f"({one()})|{self.filter()}"
        if k == 6:
            return f"({one()}) is {self.pick('', 'not ')}{self.test()}"
        if k == 7:
            return f"[{one()}, {one()}]"
        return f"({one()}){self.method()}"

    def template(self):
        return "{{ " + self.expr(self.r.randrange(1, 4)) + " }}"


def random_rows(n, seed):
    gen = Random(seed)
    seen, out = set(), []
    while len(out) < n:
        t = gen.template()
        if t in seen:
            continue
        seen.add(t)
        r = row(t)
        if r and ("Markup(" in json.dumps(r) or re.search(r"\[(1:|:2|::-1)\]", t)):   # see STRICTER
            continue
        # Half of what a random text raises is one of two sentences; keep every fourth.
        if r is None or len(json.dumps(r)) > 600 or ("error" in r and gen.r.randrange(4)):
            continue
        out.append(r)
    return out


def main():
    rows = [{"shared": SHARED, "now": NOW.isoformat(), "jinja2": jinja2.__version__}]
    if len(sys.argv) == 4 and sys.argv[1] == "--random":
        rows += random_rows(int(sys.argv[2]), int(sys.argv[3]))
    else:
        with open(SNIPPETS, encoding="utf-8") as f:
            rows += [r for line in f for r in [row(json.loads(line))] if r]
        rows += random_rows(480, 1)
    for r in rows:
        print(json.dumps(r, ensure_ascii=False))


if __name__ == "__main__":
    main()
