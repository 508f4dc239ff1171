#!/usr/bin/env python3
"""Folders of tokenizer files give the ids that transformers gives, whatever stands beside tokenizer.json.

    test_tokenizer_folder.py TOKENIZE_BATCH STRETTO STRETTO_TEST_DATA [--folders N] [--seed N] [--only NUMBER]

N folders are drawn: a tokenizer, its class, flags, names of special tokens, added tokens in every file that may
list them, ids in config.json. The oracle is transformers' AutoTokenizer. Then the folders of the data set faults."""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
os.environ["HF_HUB_OFFLINE"] = "1"
try:
    import transformers
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import AutoTokenizer
except ImportError as e:
    print("skip: the Python package %s is not installed (./dev test installs it)" % e.name)
    sys.exit(77)
if int(transformers.__version__.split(".")[0]) < 5:
    print("skip: transformers %s reads folders otherwise; ./dev test installs version 5, which the test is for"
          % transformers.__version__)
    sys.exit(77)

SPECIAL, ADD = 1, 2
TEXT = ["The quick brown Fox  jumps", "über Äpfel, naïve résumé", "中文 text 日本", " leading", "tabs\tand\nlines ",
        "ends 12345 !?", "e\u0301 A\u030a", "don't", ""]
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
NEW = ["<x>", "<y>", "<|im_end|>", "<tool>", "quick", "Äpfel", "<img>", "[E]", "</think>"]
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")


# ---- tokenizers, as the classes of transformers make them -------------------------------------------

def corpus():
    return [" ".join(TEXT)] * 5 + [open(__file__, encoding="utf-8").read()]


def byte_level(regex=None, prefix=False):
    P = pre_tokenizers
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = P.ByteLevel(add_prefix_space=prefix) if not regex else P.Sequence(
        [P.Split(Regex(regex), "isolated"), P.ByteLevel(add_prefix_space=prefix, use_regex=False)])
    if regex:
        t.normalizer = normalizers.NFC()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=500, show_progress=False, initial_alphabet=P.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<s>", "</s>", "<pad>"]))
    t.decoder = decoders.ByteLevel()
    return t


def llama():
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    t.train_from_iterator([x for x in corpus()[0].split(" ")], trainers.BpeTrainer(
        vocab_size=300, show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>"] + ["<0x%02X>" % i for i in range(256)]))
    d = json.loads(t.to_str())
    d["added_tokens"] = d["added_tokens"][:3]
    t = Tokenizer.from_str(json.dumps(d))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    return t


def gemma():
    """The file says something else than its class, which makes its own pipeline."""
    d = json.loads(llama().to_str())
    d["normalizer"] = {"type": "Prepend", "prepend": "▁"}
    return Tokenizer.from_str(json.dumps(d))


def bert():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    text = corpus() + ["Fox Äpfel The résumé über apfel fox the resume uber naïve 中文 日本"] * 9
    for flags in ({}, {"lowercase": False}, {"strip_accents": False}):
        text = text + [normalizers.BertNormalizer(**flags).normalize_str(x) for x in text[-3:]]
    t.normalizer = normalizers.BertNormalizer(lowercase=False)
    t.train_from_iterator(text, trainers.WordPieceTrainer(
        vocab_size=500, show_progress=False, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    t.normalizer = normalizers.BertNormalizer()
    t.decoder = decoders.WordPiece("##")
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return t


BASES = {
    "gpt2": (byte_level, ["GPT2Tokenizer", "GPT2TokenizerFast"], "gpt2"),
    "qwen2": (lambda: byte_level(QWEN2), ["Qwen2Tokenizer", "Qwen2TokenizerFast"], "qwen3"),
    "llama": (llama, ["LlamaTokenizer", "LlamaTokenizerFast"], "llama"),
    "gemma": (gemma, ["GemmaTokenizer", "GemmaTokenizerFast"], "gemma3_text"),
    "bert": (bert, ["BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "ElectraTokenizerFast"], "bert"),
}


# ---- folders ----------------------------------------------------------------------------------------

def token(rng, content):
    return {"content": content, "lstrip": rng.random() < .3, "rstrip": rng.random() < .3,
            "single_word": rng.random() < .2, "normalized": rng.random() < .3, "special": rng.random() < .6}


def named(rng, content, object_too=True):
    if object_too and rng.random() < .3:
        return dict(token(rng, content), __type="AddedToken")
    return content


def model_config(model_type):
    """Enough of a model for both to read the folder."""
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1, "num_key_value_heads": 1,
             "intermediate_size": 8, "head_dim": 8, "max_position_embeddings": 64, "vocab_size": 600}
    if model_type == "gpt2":
        sizes = {"n_layer": 1, "n_head": 1, "n_embd": 8, "n_positions": 64, "vocab_size": 600}
    return dict(sizes, model_type=model_type, bos_token_id=1, eos_token_id=2)


def draw(rng, bases):
    """The files of a folder, and what kind it is."""
    base = rng.choice(sorted(bases))
    tok, own, model_type = json.loads(bases[base]), BASES[base][1], BASES[base][2]
    native = rng.random() < .5
    config = {"tokenizer_class": rng.choice(own) if native else "PreTrainedTokenizerFast"}
    n = len(tok["model"]["vocab"])
    new = rng.sample(NEW, rng.randint(0, 5))
    for content in new[:rng.randint(0, 2)]:
        tok["added_tokens"].append(dict(token(rng, content), id=n + rng.choice([0, 0, 3])))
        n = n + 1
    known = [t["content"] for t in tok["added_tokens"]] + new
    if native:
        if base == "bert":
            for flag in ("do_lower_case", "tokenize_chinese_chars", "strip_accents"):
                if rng.random() < .5:
                    config[flag] = rng.choice([True, False] + [None] * (flag == "strip_accents"))
        elif base != "gemma" and rng.random() < .5:
            config["add_prefix_space"] = rng.choice([True, False])
    if not native and base != "bert" and rng.random() < .3:
        tok["post_processor"] = {"type": "TemplateProcessing", "pair": [], "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [tok["model"]["vocab"]["<s>"]], "tokens": ["<s>"]}}}
    for name in NAMES:
        # Names of a class's own make the vocabulary it is for; drawn ones may be new.
        if base == "bert" and native:
            config[name.replace("bos", "cls").replace("eos", "sep")] = {
                "bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "[UNK]", "sep_token": "[SEP]",
                "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}[name]
        elif base in ("llama", "gemma") and native and name == "unk_token":
            config[name] = "<unk>"
        elif rng.random() < .4:
            config[name] = rng.choice([None, named(rng, rng.choice(known)), named(rng, rng.choice(NEW))])
    for flag in ("add_bos_token", "add_eos_token"):
        if rng.random() < .4:
            config[flag] = rng.choice([True, False])
    if rng.random() < .2:
        config["image_token"] = rng.choice(NEW)
    files = {"config.json": model_config(model_type if native else "llama")}
    if rng.random() < .4:
        config[rng.choice(["additional_special_tokens", "extra_special_tokens"])] = rng.sample(NEW, rng.randint(0, 3))
    elif rng.random() < .2:
        config[rng.choice(["extra_special_tokens", "model_specific_special_tokens"])] = {
            "t%d_token" % i: x for i, x in enumerate(rng.sample(NEW, 2))}
    if rng.random() < .5:
        listed = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in tok["added_tokens"]}
        for content in new:
            if content not in [t["content"] for t in tok["added_tokens"]]:
                listed[str(n + rng.randint(0, 40))] = token(rng, content)
        config["added_tokens_decoder"] = listed
    else:
        if rng.random() < .4:
            files["added_tokens.json"] = {x: n + 50 + i for i, x in enumerate(rng.sample(NEW, 2))
                                          if x not in [t["content"] for t in tok["added_tokens"]]}
        if rng.random() < .4:
            files["special_tokens_map.json"] = {rng.choice(NAMES[:2]): rng.choice(known)}
    files["tokenizer.json"], files["tokenizer_config.json"] = tok, config
    return "%s%s" % (base, ", own class" * native), files


def texts(rng, extra):
    out = [(SPECIAL, x) for x in TEXT] + [(SPECIAL | ADD, TEXT[0])]
    for _ in range(12):
        parts = [rng.choice(TEXT + extra + extra) for _ in range(rng.randint(1, 5))]
        out.append((rng.choice([SPECIAL, SPECIAL | ADD]), rng.choice(["", " ", "  "]).join(parts)))
    return out


def same(name, batch, folder, rng, other=None):
    try:
        tok = AutoTokenizer.from_pretrained(other or folder)
    except Exception as e:
        return "skip", "transformers refuses it: %s" % str(e)[:100]
    asked = texts(rng, NEW + list(tok.get_added_vocab()))
    data = b"".join(b"%d %d\n" % (f, len(s.encode())) + s.encode() for f, s in asked)
    p = subprocess.run([batch, folder, "--about"], input=data, stdout=subprocess.PIPE)
    lines = p.stdout.decode().split("\n")[:-1]
    if p.returncode or lines[0] != "ok" or len(lines) != len(asked) + 2:
        return "FAIL", lines[-1]
    bos, eos, *ends = [int(x) for x in lines[1].split()]
    want = [-1 if x is None else x for x in (tok.bos_token_id, tok.eos_token_id)]
    if [bos, eos] != want:
        return "FAIL", "bos and eos are %d, %d, not %s" % (bos, eos, want)
    for (flags, s), line in zip(asked, lines[2:]):
        got = [int(x) for x in line.split("\t")[0].split()]
        want = tok(s, add_special_tokens=bool(flags & ADD)).input_ids
        if got != want:
            return "FAIL", "%r with flags %d gives %s, not %s (%s)" % (
                s, flags, got, want, tok.convert_ids_to_tokens(want))
    return "ok", ""


def faults(batch, stretto, data):
    """The folders that were once read wrongly."""
    root, good = os.path.join(data, "faults"), True
    if not os.path.isdir(root):
        print("skip: the data set faults is not there")
        return True
    for name in ("bos_null", "bert_do_lower_case", "added_tokens_decoder_only"):
        folder = os.path.join(root, name)
        with tempfile.TemporaryDirectory() as tmp:          # transformers wants a config.json
            for f in os.listdir(folder):
                with open(os.path.join(folder, f)) as old, open(os.path.join(tmp, f), "w") as copy:
                    copy.write(old.read())
            if not os.path.exists(os.path.join(tmp, "config.json")):
                with open(os.path.join(tmp, "config.json"), "w") as f:
                    json.dump({"model_type": "bert" if "bert" in name else "llama"}, f)
            verdict, why = same(name, batch, folder, random.Random(1), tmp)
        print("%-4s %s %s" % (verdict, name, why))
        good &= verdict == "ok"
    folder = os.path.join(root, "decoder_after_fuse")
    ids = json.load(open(os.path.join(folder, "ids.json")))
    want = Tokenizer.from_file(os.path.join(folder, "tokenizer.json")).decode(ids)
    got = subprocess.run([stretto, "tokenize", "-m", folder, "--decode"], input=json.dumps(ids).encode(),
                         stdout=subprocess.PIPE).stdout.decode()
    print("%-4s decoder_after_fuse %r" % ("ok" if got == want else "FAIL", got))
    return good and got == want


def main():
    p = argparse.ArgumentParser()
    p.add_argument("batch")
    p.add_argument("stretto")
    p.add_argument("data")
    p.add_argument("--folders", type=int, default=300)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only", type=int)
    args = p.parse_args()
    bases = {name: make().to_str() for name, (make, _, _) in BASES.items()}
    count = {"ok": 0, "FAIL": 0, "skip": 0}
    for i in range(args.folders):
        if args.only is not None and args.only != i:
            continue
        rng = random.Random("%d %d" % (args.seed, i))
        name, files = draw(rng, bases)
        with tempfile.TemporaryDirectory() as folder:
            for f, d in files.items():
                with open(os.path.join(folder, f), "w") as out:
                    json.dump(d, out)
            verdict, why = same(name, args.batch, folder, rng)
        count[verdict] += 1
        if verdict == "FAIL" or args.only is not None:
            print("%-4s folder %d, %s: %s" % (verdict, i, name, why))
            if args.only is not None:
                files["tokenizer.json"]["model"] = "..."
                print(json.dumps(files, indent=1, ensure_ascii=False))
    print("%d folders as transformers reads them, %d otherwise, %d it refuses" % (
        count["ok"], count["FAIL"], count["skip"]))
    good = faults(args.batch, args.stretto, args.data)
    sys.exit(0 if good and not count["FAIL"] and (count["ok"] > count["skip"] or args.only is not None) else 1)


if __name__ == "__main__":
    main()
