#!/usr/bin/env python3
"""The JSON reader against Python's json, on texts made here: ordinary, odd and damaged ones.

usage: test_json.py JSON_BATCH
Both accept the same texts and read the same values, but for what is refused on purpose: halves of
surrogate pairs (no UTF-8 text can hold them), nesting beyond 512, and UTF-16 or UTF-32.
"""
import json
import math
import random
import struct
import subprocess
import sys

DEPTH = 512
NUMBERS = ["0", "-0", "7", "-13", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
           "-9223372036854775809", "18446744073709551616", "1000000000000000019884624838656",
           "1" + "0" * 308, "1" + "0" * 309, "-" + "9" * 400, "9" * 4300, "9" * 4301, "-" + "1" * 4301,
           "1.5", "-0.0", "1e5", "1E+5", "1e-5", "1e400", "-1e400", "1e-400", "5e-324",
           "2.2250738585072011e-308", "0." + "3" * 600, "1" * 600 + ".5", "1.7976931348623159e308",
           "NaN", "Infinity", "-Infinity", "123456789012345678901234567890.0", "0e0", "1" * 5000 + ".0"]
NO_NUMBERS = ["01", "-", "+1", ".5", "1.", "1e", "1e+", "0x10", "nan", "inf", "-NaN", "Infinit", "Nan",
              "1_000", "--1", "- 1", "-Infinit", "InfinityX", "1 2", "TRUE", "None"]
STRINGS = ['""', '"a"', '"\\u00e9\\u20ac"', '"\\ud83d\\ude00"', '"é€😀"', '"\\u0000"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"',
           '"\x7f"', '"\u2028"', '"\\uFFFF"']
NO_STRINGS = ['"\\ud800"', '"\\udc00x"', '"\\ud800\\u0041"', '"\\ud83d\\ud83d\\ude00"', '"\\a"', '"\\u12g4"',
              '"\n"', '"\t"', '"\x01"', '"', "'a'", '"\\', '"\\u00']
WHOLE = ["", " ", "[]", "{}", "[1,]", "[,1]", "{,}", '{"a":1,}', '{"a"}', '{"a":}', "[1 2]", "[1}", "{]",
         '{"a":1,"a":2}', '{"a":1,"b":2,"a":{"a":3,"a":4}}', '{"\\u0061":1,"a":2}', "[1]x", "1,", "nul",
         "truefalse", "[true,false,null]", "/**/1", "1//", "{1:2}", "{a:1}", '{"":0}', "\v1", "\f1",
         "\u00a01", "\ufeff1", "\ufeff", "\ufeff{}", " \ufeff1", "\ufeff\ufeff1", '"\ufeff"', "[\ufeff]"]
BYTES = [b"\xff", b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b"\x00", b"1\x00", b"\x001",
         b"1\x00\x00\x00", b"\xff\xfe1\x00", b"\xfe\xff\x001", b"[1]\x00", b'"a\x00b"', b"\xef\xbb", b"\xef\xbb\xbf"]


def texts(rng):
    for value in NUMBERS + NO_NUMBERS + STRINGS + NO_STRINGS:
        yield value.encode()
        yield f'[ {value} ,\n{{"k" :{value}}}]'.encode()
        yield "\ufeff".encode() + value.encode()
    yield from (w.encode() for w in WHOLE)
    yield from BYTES
    for depth in (1, 100, DEPTH - 1, DEPTH, DEPTH + 1, 700):
        yield b"[" * depth + b"]" * depth
        yield b'{"a":' * depth + b"1" + b"}" * depth
    for _ in range(3000):
        text = document(rng, 0).encode()
        yield text
        damaged = bytearray(text)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(damaged) + 1)
            what = rng.randrange(3)
            if what == 0:
                damaged[at:at + 1] = bytes([rng.choice(b'"\\{}[]:,0-+.eENIau \n\x00\x80\xed\xef')])
            elif what == 1:
                del damaged[at:at + rng.randint(1, 4)]
            else:
                damaged[at:at] = rng.choice(NUMBERS + NO_STRINGS)[:40].encode()
        yield bytes(damaged)


def document(rng, depth):
    kind = rng.randrange(6 if depth < 5 else 4)
    space = rng.choice(["", "", " ", "\n\t", "\r\n"])
    if kind < 2:
        return space + rng.choice(NUMBERS if rng.random() < 0.4 else [repr(rng.uniform(-1e6, 1e6)),
                                  str(rng.randint(-10**25, 10**25)), str(rng.randint(-99, 99))]) + space
    if kind == 2:
        return space + rng.choice(["true", "false", "null"]) + space
    if kind == 3:
        return space + rng.choice(STRINGS) + space
    items = [document(rng, depth + 1) for _ in range(rng.randrange(5))]
    if kind == 4:
        return space + "[" + ",".join(items) + "]" + space
    keys = [rng.choice(['"a"', '"b"', '"\\u0061"', '"é"', '""']) for _ in items]
    return space + "{" + ",".join(f"{k}{space}:{v}" for k, v in zip(keys, items)) + "}" + space


def hexed(text):
    return text.encode("utf-8").hex()                # a lone surrogate raises UnicodeEncodeError


def double(x):
    return "fnan" if math.isnan(x) else "f" + struct.pack(">d", x).hex()


def spelled(v):
    """Python's value as json_batch spells the stream; objects are lists of pairs in a tuple."""
    if isinstance(v, tuple):
        return "{ " + "".join(f"k{hexed(k)} {spelled(x)}" for k, x in v[0]) + "} "
    if isinstance(v, list):
        return "[ " + "".join(map(spelled, v)) + "] "
    return atom(v)


def atom(v):
    if v is None or isinstance(v, bool):
        return "n " if v is None else "t " if v else "f "
    if isinstance(v, str):
        return f"s{hexed(v)} "
    return f"i{v} " if isinstance(v, int) else double(v) + " "


class Spelled(float):
    """A float that remembers its text."""

    def __new__(cls, text):
        self = super().__new__(cls, text)
        self.text = text
        return self


def tree(v):
    """The same of the tree: 64-bit integers, finite doubles, and the spelling of other numbers."""
    if isinstance(v, dict):
        return "{ " + "".join(f"k{hexed(k)} {tree(x)}" for k, x in v.items()) + "} "
    if isinstance(v, list):
        return "[ " + "".join(map(tree, v)) + "] "
    if isinstance(v, Spelled) and not math.isfinite(v):
        return f"s{hexed(v.text)} "
    if isinstance(v, int) and not isinstance(v, bool) and not -2**63 <= v < 2**63:
        try:
            return double(float(v)) + " "
        except OverflowError:
            return f"s{hexed(str(v))} "
    return atom(v)


def depth_of(text):
    depth = most = 0
    for c in text.replace(b"\\\\", b"").replace(b'\\"', b""):
        depth += (c in b"[{") - (c in b"]}")
        most = max(most, depth)
    return most


def wanted(text):
    """(stream, tree) as Python reads the text, None where it does not, and why we may differ."""
    if not json.detect_encoding(text).startswith("utf-8"):
        return None, None, "any"
    try:
        pairs = json.loads(text, object_pairs_hook=lambda p: (p,))
        value = json.loads(text, parse_float=Spelled, parse_constant=Spelled)
        return spelled(pairs), tree(value), None
    except UnicodeEncodeError:
        return None, None, None                      # a lone surrogate: refused on purpose
    except (ValueError, RecursionError):
        return None, None, None


def main():
    sys.setrecursionlimit(20000)             # for our own spelling of what is deep
    rng = random.Random(20)
    cases = list(texts(rng))
    given = b"".join(b"%s %d\n%s" % (mode, len(t), t) for t in cases for mode in (b"s", b"t"))
    out = subprocess.run([sys.argv[1]], input=given, capture_output=True, check=True).stdout
    lines = out.decode("utf-8", "replace").split("\n")
    wrong, refused, deep = [], 0, 0
    if len(lines) != 2 * len(cases) + 1:
        sys.exit(f"{len(lines)} answers to {2 * len(cases)} texts")
    for i, text in enumerate(cases):
        stream, as_tree, why = wanted(text)
        got = lines[2 * i], lines[2 * i + 1]
        if stream is not None and depth_of(text) > DEPTH:
            stream = as_tree = None
            deep += "nested too deeply" in got[0]
        refused += stream is None
        for want, have in zip((stream, as_tree), got):
            ok = "error " in have if want is None else have == want
            if not ok and not (why == "any" and want is None):
                wrong.append(f"{text[:200]!r}: wanted {want and want[:200]!r}, got {have[:200]!r}")
    print("\n".join(wrong[:20]) or f"{len(cases)} texts, {refused} of them refused")
    if deep < 3 or refused < 500 or len(cases) - refused < 3000:
        sys.exit(f"the texts do not show what they should: {deep} deep, {refused} refused")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
