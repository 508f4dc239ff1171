#!/usr/bin/env python3
"""stretto run with decoding strategies: a draft model that does not fit is refused with a sentence, the picture of
--trace is a whole SVG that holds every token once.

    test_decode.py STRETTO GOLDEN_FOLDER"""
import array
import json
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
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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
            (("--decode", "plain", "-md", path("llama")), 2, "-md goes with"),
            (("--decode", "jacobi+lookup", "--heads", "h"), 2, "--heads goes with"),
            (("--decode", "plain+jacobi"), 2, "joined with nothing"), (("-sys", "x"), 2, "--chat"),
            (("--logit-bias", "5+nan"), 2, "token 5 is no number"), (("--trace", "t.png"), 2, "SVG"),
            (("--trace", ""), 2, "name of a file"), (("--trace", "/"), 1, "folder"),
            (("-md", path("none")), 1, "none"), (("--heads", path("llama")), 1, "model.gguf"),
            (("--decode", "lookahead", "--ngram", "5", "--draft-max", "1"), 2, "lookahead")):
        code, out, err = run("-m", path("llama"), "-n", "5", *args)
        assert code == status and words in err, (args, code, err)
    with tempfile.TemporaryDirectory() as tmp:
        svg = os.path.join(tmp, "t.svg")
        for decode in ("plain", "jacobi", "lookup+suffix"):
            code, out, err = run("-m", path("llama"), "-n", "60", "--decode", decode, "--trace", svg, "--force")
            assert code == 0 and out == plain, err
            text = open(svg, encoding="utf-8").read()
            xml.dom.minidom.parseString(text)
            # Every token is a chip; the first is the prompt's answer.
            assert text.count('class="chip"') == 60, (decode, text.count('class="chip"'))
            steps = int(re.search(r"60 tokens: the first with the prompt, 59 in (\d+) steps;", text).group(1))
            assert steps == 59 if decode == "plain" else steps <= 59
            assert "times the speed of one token per step" in text or decode != "plain", text
        # For a dark page: other colours everywhere, the same run.
        night = os.path.join(tmp, "night.svg")
        code, out, err = run("-m", path("llama"), "-n", "60", "--decode", "lookup+suffix", "--trace", svg, "--force",
                             "--trace-dark", night)
        pictures = [open(f, encoding="utf-8").read() for f in (svg, night)]
        xml.dom.minidom.parseString(pictures[1])
        colours = [set(re.findall("#[0-9a-f]{6}", t)) for t in pictures]
        assert code == 0 and out == plain and len(colours[0]) > 5 and not colours[0] & colours[1], colours
        assert re.sub("#[0-9a-f]{6}", "", pictures[0]) == re.sub("#[0-9a-f]{6}", "", pictures[1])
        for n in "0", "1":
            code, out, err = run("-m", path("llama"), "-n", n, "--decode", "plain", "--trace", svg,
                                 "--force")
            text = open(svg, encoding="utf-8").read()
            xml.dom.minidom.parseString(text)
            assert code == 0 and text.count('class="chip"') == int(n), (n, text)
        code, out, err = run("-m", path("llama"), "-n", "5", "--trace", os.path.join(tmp, "no", "t.svg"))
        assert code == 1 and "cannot write" in err, err
    # Several stop strings: the first that comes ends the text.
    whole = plain.decode("utf-8", "replace").rstrip("\n")
    early, late = whole[len(whole) // 4:][:3], whole[len(whole) // 2:][:3]
    for stops in ((early, late), (late, early)):
        code, out, err = run("-m", path("llama"), "-n", "60", "--stop", stops[0], "--stop", stops[1])
        want = whole[:min(whole.index(early), whole.index(late))]
        assert code == 0 and out.decode("utf-8", "replace").rstrip("\n") == want.rstrip("\n"), (stops, out, want)
    code, out, err = run("-m", path("llama"), "-n", "5", *(17 * ("--stop", "x")))
    assert code == 2 and "16 times" in err, err
    # Every --logit-bias counts: the best tokens of the model's own logits, one after the other, are forbidden.
    with tempfile.TemporaryDirectory() as tmp:
        raw = os.path.join(tmp, "logits")
        ids = json.loads(subprocess.run([stretto, "tokenize", "-m", path("llama"), "--json", "--add-special"],
                                        input=b"ab ab ab", stdout=subprocess.PIPE, check=True).stdout)
        subprocess.run([stretto, "eval", "logits", "-m", path("llama"), "--ids", ",".join(map(str, ids)), "--raw", raw],
                       stdout=subprocess.PIPE, check=True)
        logits = array.array("f", open(raw, "rb").read())[-(os.path.getsize(raw) // 4 // len(ids)):]
    best = sorted(range(len(logits)), key=lambda i: -logits[i])[:4]
    for n in range(4):
        code, out, err = run("-m", path("llama"), "-n", "1", "--json",
                             *[x for i in best[:n] for x in ("-l" if i % 2 else "--logit-bias", f"{i}-1000")])
        assert code == 0 and json.loads(out)["ids"] == [best[n]], (n, out, best)
    code, out, err = run("-m", path("llama"), "-n", "1", "--json", "-l", f"{best[0]}-1000,{best[1]}-1000", "-l",
                         f"{best[2]}-500", "-l", f"{best[2]}-500")
    assert code == 0 and json.loads(out)["ids"] == [best[3]], (out, best)
    code, out, err = run("-m", path("llama"), "-n", "1", "-l", "5-1", "-l", "5")
    assert code == 2 and "not '5'" in err, err
    # -v names no price of a step that was not taken.
    code, out, err = run("-m", path("llama"), "-n", "20", "--decode", "plain", "-v")
    assert "a step of 1 row takes" in err and "times that" not in err, err
    print("decoding from the command line")


if __name__ == "__main__":
    main()
