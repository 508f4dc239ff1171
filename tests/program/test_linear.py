#!/usr/bin/env python3
"""No text makes a tokenizer slow: what a run of 2n bytes costs is about twice what n cost.

    test_linear.py TOKENIZE_BATCH STRETTO_TEST_DATA [--only WORD] [--long]

Every pre-tokenizer that GGUF names, every kind of model and normalizer, the matcher of added tokens and the
decoder meet runs of one thing: a letter, digits, marks, blanks, newlines, joiners, bytes that are no UTF-8.
Instructions are counted (valgrind's callgrind), nothing is timed. On a cut of the same runs the ids must be
those of Hugging Face's tokenizers, which reads the same expressions with an engine of its own, and 256 KB of
each must go through the real vocabularies, 64 KB through the expressions of the others; with --long 1 MB."""
import argparse
import glob
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile

try:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
except ImportError as e:
    print("skip: the Python package %s is not installed (./dev test installs it)" % e.name)
    sys.exit(77)
if not shutil.which("valgrind"):
    print("skip: valgrind, which counts the instructions, is not installed (./dev test installs it)")
    sys.exit(77)

CUT, SIZE, SHORT, WHOLE, MEGABYTE = 1500, 1 << 10, 1 << 16, 1 << 18, 1 << 20
NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd"))
SURROGATE = b"\xed\xa0\x80"
RUNS = {
    "letter": "a", "capital": "A", "digit": "0", "mark": "\u0301", "marks": "\u0315\u0300\u0316\u05b0",
    "letter and marks": "e\u0301\u0323", "space": " ", "newline": "\n", "lines": " \n", "returns": "\r\n",
    "tab": "\t", "wide space": "\u3000", "word": "a ", "joiner": "\u200d", "family": "👨\u200d", "point": "!",
    "quote": "'", "han": "中", "jamo": "\u1100\u1161", "arabic digit": "٣", "number": "1a",
    "surrogate": SURROGATE, "tail byte": b"\x80", "half and whole": b"\xf0\x9fa",
}


def run(unit, size, tail=b""):
    unit = unit if isinstance(unit, bytes) else unit.encode()
    return unit * (size // len(unit)) + tail


def nasty(size):
    """Every run alone, and with a letter behind it: what looks for an end looks in vain. Blanks are looked
    through in blocks by some, so that much of them must be there before it shows."""
    for name, unit in RUNS.items():
        much = 16 if name == "space" else 1
        yield name, run(unit, size * much)
        if name in ("digit", "space", "newline", "lines", "marks", "point", "tab"):
            yield name + ", letter", run(unit, size * much, b"x")


# ---- the program ------------------------------------------------------------------------------------

def ask(command, texts, quiet=False):
    data = b"".join(b"%d %d\n" % (flags, len(s)) + s for flags, s in texts)
    p = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    lines = p.stdout.split(b"\n")[1:-1]
    if p.returncode or len(lines) != (0 if quiet else len(texts)):
        raise SystemExit("FAIL %s: exit code %d, %d answers for %d texts: %s" % (
            " ".join(command), p.returncode, len(lines), len(texts), p.stdout[-200:]))
    return lines


def costs(path):
    """What a profile says that each place of TOKENIZE_BATCH spent in (tokenizing, decoding), in the places' order."""
    found, place, called = {}, None, None
    with open(path) as f:
        for line in f:
            if line.startswith("fn="):
                place = int(line[9:], 8) if line.startswith("fn=place_") else None
            elif place is not None and line.startswith("cfn="):
                called = line[4:].strip()
            elif place is not None and line.startswith("calls="):
                if called in ("tokenizer_encode", "tokenizer_decode"):
                    found.setdefault(place, {})[called] = int(next(f).split()[1])
    return [(found[i]["tokenizer_encode"], found[i]["tokenizer_decode"]) for i in range(len(found))]


def count(batch, folders, texts):
    """For each tokenizer, the instructions of tokenizing each text, and of turning its ids back. All of them in one
    run of valgrind, whose start takes as long as the texts of one, and one profile for each: making a profile takes
    longer than reading a text."""
    texts = [(1, b"warm")] + texts
    assert len(texts) <= 64, "TOKENIZE_BATCH has 64 places"
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "out")
        with open(os.path.join(tmp, "in"), "wb") as f:
            f.write(b"".join(b"%d %d\n" % (flags, len(s)) + s for flags, s in texts))
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out, "--dump-after=tokenizer_close",
                   "--compress-strings=no", "--compress-pos=no", batch, *folders, "--quiet"]
        with open(os.path.join(tmp, "in"), "rb") as f:
            p = subprocess.run(command, stdin=f, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if p.returncode or p.stdout != b"ok\n" * len(folders):
            raise SystemExit("FAIL %s: exit code %d: %s" % (" ".join(command), p.returncode, p.stdout[-200:]))
        each = [costs("%s.%d" % (out, i + 1)) for i in range(len(folders))]
    if any(len(n) != len(texts) for n in each):
        raise SystemExit("FAIL: a profile has no costs of some texts")
    return [tuple(zip(*n[1:])) for n in each]


def grow(batch, folders, size):
    """{folder: (whether all runs take linear time, the worst growth, what to say)}"""
    once, twice = list(nasty(size)), list(nasty(2 * size))
    # Twice the text may cost twice as much, or n log n (2.15 is the most that any takes): 5 % more, and something is
    # wrong. A part that is quadratic shows when it is a sixth of the whole.
    most = 1.05 * 2 * math.log(2 * size) / math.log(size)
    found = {}
    for folder, counts in zip(folders, count(batch, folders, [(1, s) for _, s in once] + [(1, s) for _, s in twice])):
        worst, said = 0, []
        for what, n in zip(("tokenizing", "decoding"), counts):
            for i, (run_name, _) in enumerate(once):
                ratio = n[i + len(once)] / n[i]
                worst = max(worst, ratio)
                if ratio > most:
                    said.append("%s, %s: %d instructions for %d bytes, %d for twice as many" % (
                        run_name, what, n[i], size, n[i + len(once)]))
        found[folder] = (not said, worst, said)
    return found


def equals(name, batch, folder, tok):
    texts = [(run_name, s.decode()) for run_name, s in nasty(CUT) if s.decode("utf-8", "ignore").encode() == s]
    answers = ask([batch, folder], [(0, s.encode()) for _, s in texts])
    tok.encode_special_tokens = True
    for (run_name, s), line in zip(texts, answers):
        ids, _, back = line.partition(b"\t")
        want = tok.encode(s, add_special_tokens=False).ids
        if [int(x) for x in ids.split()] != want:
            print("FAIL %s: %s: the ids are not those of tokenizers: %s ..., %s ..." % (
                name, run_name, ids[:80].decode(), want[:20]))
            return False
        text = tok.decode(want, skip_special_tokens=False)
        if "\ufffd" not in text and bytes.fromhex(back.decode()).decode("utf-8", "replace") != text:
            print("FAIL %s: %s: it decodes to something else" % (name, run_name))
            return False
    return True


# ---- tokenizers -------------------------------------------------------------------------------------

THREES = {"\1": r"\d{1,3}(?=(?:\d{3})*(?!\d))", "\2": r"\d{1,3}(?=(?:\d{3})*\b)", "\3": r"(?=(\d{3})+(?!\d))"}


def expressions(batch):
    """Expressions of all names, each list once."""
    seen = {}
    names = subprocess.run([batch, "--names"], stdout=subprocess.PIPE, check=True).stdout.decode()
    for line in names.split("\n")[:-1]:
        name, *steps = line.split("\t")
        steps = tuple(bytes.fromhex(x).decode() for x in steps)
        seen.setdefault(tuple(THREES.get(x, x) for x in steps), name)
    return {name: steps for steps, name in seen.items()}


def trained():
    """Merges over runs of everything, so that where words end shows in the ids."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    texts = [s.decode("utf-8", "ignore") for _, s in nasty(40)] + ["a0 \n!A'\t" * 9]
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=700, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.decoder = decoders.ByteLevel()
    return json.loads(t.to_str())


def splits(steps):
    P = pre_tokenizers
    return P.Sequence([P.Split(Regex(x), "isolated") for x in steps]
                      + [P.ByteLevel(add_prefix_space=False, use_regex=False)])


def with_merges(d, merges):
    d = json.loads(json.dumps(d))
    if not merges:
        made = {a + b for a, b in d["model"]["merges"]}
        keep = [t for t in d["model"]["vocab"] if t not in made]
        d["model"].update(vocab={t: i for i, t in enumerate(keep)}, merges=[])
    return Tokenizer.from_str(json.dumps(d))


def other_steps():
    """What tokenizer.json may hold besides expressions of known names."""
    N, P = normalizers, pre_tokenizers
    level = P.ByteLevel(add_prefix_space=False, use_regex=False)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield form.lower(), getattr(N, form)(), level
    yield "marks", N.Sequence([N.NFD(), N.StripAccents(), N.Lowercase(), N.Strip()]), level
    yield "replace", N.Sequence([N.Replace(Regex(r"\s+$"), ""), N.Replace(Regex(r"\s+"), " "),
                                 N.Replace("aa", "b")]), level
    yield "digits", None, P.Sequence([P.Digits(individual_digits=False), P.Punctuation("contiguous"), level])
    yield "whitespace", None, P.Sequence([P.WhitespaceSplit(), P.Whitespace(), level])
    expressions = (r"\s+$", r"\d+\.", r"\s*\n", r"(?=(\d{3})+(?!\d))", r"[a-z]+[0-9]", r"(?=(?:\p{N}{3})+\b)")
    for i, e in enumerate(expressions):
        for cut in ("isolated", "merged_with_previous", "removed"):
            yield "split-%d-%s" % (i, cut), None, P.Sequence([P.Split(Regex(e), cut), level])


def added(t):
    t.add_tokens([AddedToken("a"), AddedToken("aaaaaaaaaaaaaaaaaaaa", normalized=False),
                  AddedToken("\n", rstrip=True, normalized=False), AddedToken("  ", lstrip=True),
                  AddedToken("\t", lstrip=True, rstrip=True, normalized=False), AddedToken("!", single_word=True),
                  AddedToken("0" * 40), AddedToken(" x", rstrip=True, normalized=False)])
    return t


def keys_of(path):
    """The keys of a GGUF file (version 3, little-endian). gguf's own reader takes seconds for a vocabulary."""
    with open(path, "rb") as f:
        data = f.read()
    at = 24                                         # behind magic, version and both counts

    def one(kind):
        nonlocal at
        if kind == 8:                               # a string
            n, = struct.unpack_from("<Q", data, at)
            at += 8 + n
            return data[at - n:at].decode()
        if kind == 9:                               # an array
            kind, n = struct.unpack_from("<IQ", data, at)
            at += 12
            if kind in (8, 9):
                return [one(kind) for _ in range(n)]
            values = struct.unpack_from("<%d%s" % (n, NUMBERS[kind]), data, at)
            at += struct.calcsize(NUMBERS[kind]) * n
            return list(values)
        value, = struct.unpack_from("<" + NUMBERS[kind], data, at)
        at += struct.calcsize(NUMBERS[kind])
        return value
    keys = {}
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        name, kind = one(8), one(4)
        keys[name] = one(kind)
    return keys


def from_gguf(path):
    """The vocabulary of a GGUF file as Hugging Face's library has it."""
    keys = {k[len("tokenizer.ggml."):]: v for k, v in keys_of(path).items() if k.startswith("tokenizer.ggml.")}
    kind, tokens, types = keys["model"], keys["tokens"], keys["token_type"]
    vocab = {t: i for i, t in enumerate(tokens)}
    N, P = normalizers, pre_tokenizers
    if kind == "gpt2":
        merges = [tuple(m.split(" ")) for m in keys["merges"]]
        t = Tokenizer(models.BPE(vocab=vocab, merges=merges))
        t.decoder = decoders.ByteLevel()
    elif kind == "bert":
        vocab = {x[1:] if x[0] == "▁" else x if types[i] == 3 else "##" + x: i for i, x in enumerate(tokens)}
        t = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
        t.normalizer, t.pre_tokenizer = N.BertNormalizer(), P.BertPreTokenizer()
    else:
        scores = keys["scores"]
        plain = {x for i, x in enumerate(tokens) if types[i] in (1, 4)}
        merges = [((a, b), scores[i]) for i, x in enumerate(tokens) if types[i] == 1
                  for a, b in ((x[:k], x[k:]) for k in range(1, len(x))) if a in plain and b in plain]
        merges.sort(key=lambda m: -m[1])
        t = Tokenizer(models.BPE(vocab=vocab, merges=[m[0] for m in merges], byte_fallback=True,
                                 fuse_unk=True, unk_token="<unk>"))
        t.normalizer = N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])
        t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                       decoders.Strip(" ", 1, 0)])
    return kind, keys.get("pre", "default"), t


def folders(tmp, batch):
    """(name, what to open, its oracle, how large the smaller text is; 0: growth is not looked at)."""
    base, names = trained(), expressions(batch)

    def save(name, t):
        folder = os.path.join(tmp, name)
        os.mkdir(folder)
        t.save(os.path.join(folder, "tokenizer.json"))
        return folder
    for name, steps in names.items():
        for merges in (False, True):
            t = with_merges(base, merges)
            t.pre_tokenizer = splits(steps)
            yield "%s%s" % (name, ", merges" * merges), save("%s-%d" % (name, merges), t), t, 0 if merges else SIZE
    for name, norm, pre in other_steps():
        for merges in (False, True):
            t = with_merges(base, merges)
            t.pre_tokenizer = pre
            if norm is not None:
                t.normalizer = norm
            yield "%s%s" % (name, ", merges" * merges), save("%s-%d" % (name, merges), t), t, 0 if merges else SIZE
    t = added(with_merges(base, False))
    t.normalizer = normalizers.NFC()
    yield "added", save("added", t), t, SIZE


def vocabularies(data, batch):
    for path in sorted(glob.glob(os.path.join(data, "tokenizer", "*.gguf"))):
        kind, pre, t = from_gguf(path)
        if kind == "gpt2":
            steps = expressions(batch)
            known = {"gpt-2": "gpt-2", "qwen2": "qwen2", "falcon": "falcon"}.get(pre)
            t.pre_tokenizer = splits(steps[known])
        yield os.path.basename(path), path, t, SIZE


def given(batch, data):
    """Two files of other people that took quadratic time: the ids of tokenizers, and linear growth. A start of
    the text is compared: tokenizers itself takes quadratic time over digits."""
    good = True
    for name, text in (("digits_quadratic", "digits_64k.txt"), ("nfc_quadratic", "marks_80k.txt")):
        folder = os.path.join(data, "faults", name)
        if not os.path.isdir(folder):
            print("skip: %s is not there" % folder)
            continue
        text = open(os.path.join(data, "faults", text), encoding="utf-8", newline="").read()
        cut = text[:1 << 12]
        ids = ask([batch, folder], [(0, cut.encode())])[0].partition(b"\t")[0]
        want = Tokenizer.from_file(os.path.join(folder, "tokenizer.json")).encode(cut, add_special_tokens=False).ids
        same = [int(x) for x in ids.split()] == want
        half = text[:len(text) // 2].encode()
        (counts, _), = count(batch, [folder], [(0, half), (0, text.encode())])
        fine = same and counts[1] < 2.5 * counts[0]
        print("%-4s %-28s %s ids, growth %.2f" % ("ok" if fine else "FAIL", name, "same" if same else "OTHER",
                                                  counts[1] / counts[0]))
        good &= fine
    return good


def main():
    p = argparse.ArgumentParser()
    p.add_argument("batch")
    p.add_argument("data")
    p.add_argument("--only", default="")
    p.add_argument("--long", action="store_true")
    args = p.parse_args()
    good = given(args.batch, args.data)
    with tempfile.TemporaryDirectory() as tmp:
        length = MEGABYTE if args.long else SHORT
        all_of = [(*x, length) for x in folders(tmp, args.batch)]
        all_of += [(*x, MEGABYTE if args.long else WHOLE) for x in vocabularies(args.data, args.batch)]
        all_of = [x for x in all_of if args.only in x[0]]
        growth = grow(args.batch, [path for _, path, _, size, _ in all_of if size], SIZE)
        for name, path, tok, size, length in all_of:
            fine, worst = equals(name, args.batch, path, tok), 0
            if size:
                linear, worst, said = growth[path]
                fine = fine and linear
                for words in said:
                    print("FAIL %s: %s" % (name, words))
                ask([args.batch, path, "--quiet"], [(1, s[:length]) for _, s in nasty(length)], True)
            print("%-4s %-28s worst growth %.2f" % ("ok" if fine else "FAIL", name, worst), flush=True)
            good &= fine
    n = len(all_of)
    print("%d tokenizers, %d runs each" % (n, len(list(nasty(1)))))
    sys.exit(0 if good and n else 1)


if __name__ == "__main__":
    main()
