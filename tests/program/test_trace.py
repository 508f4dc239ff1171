#!/usr/bin/env python3
"""stretto trace jacobi: its states are those of a naive Jacobi iteration, an interrupted file is resumed,
and what it cannot do it says.

    test_trace.py STRETTO TRACE_CHECK GOLDEN_FOLDER"""
import fcntl
import json
import os
import random
import subprocess
import sys
import tempfile

stretto, check, golden = sys.argv[1:4]
if not os.path.isdir(golden):
    print(f"skip: there is no {golden}")
    sys.exit(77)


def trace(*args):
    r = subprocess.run([stretto, "trace", "jacobi", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True)
    return r.returncode, r.stderr


def main():
    rng = random.Random(5)
    with tempfile.TemporaryDirectory() as tmp:
        prompts, out = os.path.join(tmp, "p.jsonl"), os.path.join(tmp, "t.jsonl")
        with open(prompts, "w") as f:
            for i in range(5):
                ids = [rng.randrange(3, 290) for _ in range(rng.randrange(1, 70))]
                f.write(json.dumps({"id": f"p{i}", "set": "random", "ids": ids}) + "\n")
            f.write(json.dumps({"id": "long", "ids": list(range(3, 253))}) + "\n")
        compared = 0
        for name, block, states in (("llama", 16, 16), ("gemma2", 7, 7), ("qwen2", 16, 3), ("gpt2", 2, 2),
                                    ("type-q4_k", 33, 33)):
            model = os.path.join(golden, name, "model.gguf")
            args = ("-m", model, "--prompts", prompts, "-n", "70", "--block", str(block), "--states", str(states))
            if os.path.exists(out):
                os.remove(out)
            assert trace(*args, "-o", out)[0] == 0, name
            compared += int(subprocess.run([check, model, out], stdout=subprocess.PIPE, check=True).stdout)
            whole = open(out, "rb").read()
            # The same whatever shares the steps.
            assert trace(*args, "-np", "1", "-t", "1", "-o", out + "1")[0] == 0
            assert open(out + "1", "rb").read() == whole, name
            os.remove(out + "1")
            # Cut off anywhere, the same call writes the same file. Threads would only wait for each other here.
            for cut in [0, 1, 40, len(whole) - 1] + [rng.randrange(len(whole)) for _ in range(4)]:
                with open(out, "wb") as f:
                    f.write(whole[:cut])
                assert trace(*args, "-t", "1", "-o", out)[0] == 0
                assert open(out, "rb").read() == whole, (name, cut)
            code, words = trace(*args, "-o", out, "--seed", "1")
            assert code == 1 and "other options" in words, words
        with open(out, "rb") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            code, words = trace(*args, "-o", out)
            assert code == 1 and "another process" in words and open(out, "rb").read() == whole, words
        # An answer longer than what windows keep: the beginnings of its blocks are read again.
        with open(os.path.join(tmp, "one"), "w") as f:
            f.write(json.dumps({"id": "one", "ids": [rng.randrange(3, 290) for _ in range(30)]}) + "\n")
        model, far = os.path.join(golden, "gemma3", "model.gguf"), os.path.join(tmp, "far")
        code, words = trace("-m", model, "--prompts", os.path.join(tmp, "one"), "-n", "450", "-c", "512",
                            "--block", "33", "--states", "4", "-o", far)
        assert code == 0, words
        assert len(json.loads(open(far).readlines()[1])["answer"]) > 400
        compared += int(subprocess.run([check, model, far], stdout=subprocess.PIPE, check=True).stdout)
        model = os.path.join(golden, "llama", "model.gguf")
        last = [json.loads(line) for line in open(out)][1:]
        assert len(last) == 6 and ["skipped" in r for r in last] == 5 * [False] + [True]
        args = ("-m", model, "-o", os.path.join(tmp, "bad"), "-n", "20")
        for line, sentence in (('{"id":"x"}', "prompt"), ('{"ids":[1,-2]}', "token id"), ("[]", "object"),
                               ('{"ids":[999999]}', "vocabulary"), ('{"ids":[]}', "list of token ids"),
                               ("", "empty"), ('{"prompt":3}', "string"), ('{"ids":[1],"chat":true}', "chat")):
            with open(prompts, "w") as f:
                f.write(line + "\n")
            code, words = trace(*args, "--prompts", prompts)
            assert code == 1 and sentence in words, (line, words)
        assert trace(*args)[0] == 2 and trace("--prompts", prompts)[0] == 2
        with open(prompts, "w") as f:
            f.write('{"ids":[5,6]}\n')
        assert trace(*args, "--prompts", prompts, "--block", "1")[0] == 2
        code, words = trace(*args, "--prompts", prompts, "-n", "60000")
        assert code == 2 and "-n" in words, words
        code, words = trace("-m", model, "--prompts", prompts, "-n", "20", "-o", os.path.join(tmp, "no", "f"))
        assert code == 1 and "cannot open" in words, words
    print(f"{compared} states compared")


if __name__ == "__main__":
    main()
