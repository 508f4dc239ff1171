#!/usr/bin/env python3
"""stretto run with ways of decoding: a draft model that does not fit is refused with a sentence, the picture of
--trace is a whole SVG that holds every token once.

    test_decode.py STRETTO GOLDEN_FOLDER"""
import os
import re
import subprocess
import sys
import tempfile
import xml.dom.minidom

stretto, golden = sys.argv[1:3]
if not os.path.isdir(golden):
    print(f"skip: there is no {golden}")
    sys.exit(77)


def path(name):
    return os.path.join(golden, name, "model.gguf")


def run(*args):
    r = subprocess.run([stretto, "run", "-p", "ab ab ab", "--temp", "0", "--ignore-eos", *args],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return r.returncode, r.stdout, r.stderr.decode()


def main():
    code, plain, err = run("-m", path("llama"), "-n", "60", "--decode", "plain")
    assert code == 0, err
    # Its own draft, a draft of the same vocabulary, and what auto makes of them.
    for args in (("--decode", "draft", "-md", path("llama")), ("--decode", "draft", "-md", path("llama-tied")),
                 ("-md", path("llama-tied")), ("--decode", "draft+lookahead", "-md", path("llama-yarn")),
                 ("--decode", "lookahead", "--window", "6", "--ngram", "4", "--guesses", "2", "--draft-max", "30"),
                 ("--decode", "lookahead", "--window", "49", "--draft-max", "5")):
        code, out, err = run("-m", path("llama"), "-n", "60", *args)
        assert code == 0 and out == plain, (args, err)
    for args, status, words in (
            (("--decode", "draft"), 2, "-md"), (("--decode", "heads"), 2, "--heads"),
            (("-md", path("gemma3")), 2, "vocabulary"), (("-md", path("bert")), 2, "draft model"),
            (("-md", path("none")), 1, "none"), (("--heads", path("llama")), 1, "model.gguf"),
            (("--decode", "lookahead", "--ngram", "5", "--draft-max", "1"), 2, "lookahead")):
        code, out, err = run("-m", path("llama"), "-n", "5", *args)
        assert code == status and words in err, (args, code, err)
    with tempfile.TemporaryDirectory() as tmp:
        svg = os.path.join(tmp, "t.svg")
        for decode in ("plain", "jacobi", "lookup+suffix"):
            code, out, err = run("-m", path("llama"), "-n", "60", "--decode", decode, "--trace", svg)
            assert code == 0 and out == plain, err
            text = open(svg, encoding="utf-8").read()
            xml.dom.minidom.parseString(text)
            # The first token is the prompt's answer; every other one is a chip.
            assert text.count('class="chip"') == 59, (decode, text.count('class="chip"'))
            steps = int(re.search(r"60 tokens in (\d+) steps", text).group(1))
            assert steps == 59 if decode == "plain" else steps <= 59
        code, out, err = run("-m", path("llama"), "-n", "5", "--trace", os.path.join(tmp, "no", "t.svg"))
        assert code == 1 and "cannot write" in err, err
    print("decoding from the command line")


if __name__ == "__main__":
    main()
