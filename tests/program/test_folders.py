#!/usr/bin/env python3
"""Small files beside a model as others write them: what json reads, we read.

usage: test_folders.py STRETTO DATA
Folders are made here: a tokenizer of bytes, and around it the odd forms that published folders have.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

STRETTO = sys.argv[1]
wrong = []


def check(what, ok, detail=""):
    if not ok:
        wrong.append(f"{what}: {detail}")


def letters():
    """GPT-2's letters for the 256 bytes."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return {b: chr(b) if b in own else chr(256 + n) for n, b in
            enumerate([b for b in range(256) if b not in own] + own)}


def tokenizer(specials=("<s>", "</s>")):
    vocab = {s: i for i, s in enumerate(specials)}
    for _, letter in sorted(letters().items()):
        vocab[letter] = len(vocab)
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True} for i, s in enumerate(specials)],
            "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                              "use_regex": True},
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": False, "vocab": vocab, "merges": []}}


def folder(root, name, **files):
    """A folder of files; a value that is no string becomes JSON; None leaves the file out."""
    path = root / name
    path.mkdir()
    files = {"tokenizer": tokenizer(), **files}
    for stem, value in files.items():
        file = path / (stem if "." in stem else stem + ".json")
        if value is not None:
            file.write_bytes(value if isinstance(value, bytes) else value.encode()
                             if isinstance(value, str) else json.dumps(value).encode())
    return path


def tokenize(path, text):
    p = subprocess.run([STRETTO, "tokenize", "-m", path, "--json"], input=text.encode(), capture_output=True)
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def odd_json(root):
    good = '{"bos_token": "<s>", "eos_token": "</s>", "model_max_length": %s}'
    plain = tokenize(folder(root, "plain", tokenizer_config=good % "8"), "a")
    check("an ordinary folder", plain[0] == 0, plain)
    odd = {"1e30 as an integer": {"tokenizer_config": good % "1000000000000000019884624838656"},
           "NaN, Infinity and 1e400": {"tokenizer_config": good % "[NaN, Infinity, -Infinity, 1e400, -1e999]"},
           "an integer of 400 digits": {"tokenizer_config": good % ("9" * 400)},
           "a byte order mark": {"tokenizer_config": "\ufeff" + good % "8",
                                 "tokenizer": "\ufeff" + json.dumps(tokenizer())},
           "a name twice": {"tokenizer_config": good.replace("{", '{"bos_token": 7, ', 1) % "8"},
           "an empty generation_config.json": {"generation_config": ""},
           "a blank generation_config.json": {"generation_config": " \n"}}
    for i, (what, files) in enumerate(odd.items()):
        got = tokenize(folder(root, f"odd{i}", **files), "a")
        check(what, got == plain, got)
    bad = {"half of a surrogate pair": {"tokenizer_config": '{"x": "\\ud800"}'},
           "this is UTF-16": {"tokenizer_config": (good % "8").encode("utf-16")},
           "nested too deeply": {"tokenizer_config": "[" * 600 + "]" * 600},
           "tokenizer_config.json: line 1, column 1 (byte 0): the text ends too early": {"tokenizer_config": ""},
           "generation_config.json: line 1, column 2": {"generation_config": "{'a': 1}"}}
    for i, (words, files) in enumerate(bad.items()):
        code, out, err = tokenize(folder(root, f"bad{i}", **files), "a")
        check(words, code == 1 and out == "" and words in err, err)


def template(path, variables):
    file = path / "vars.json"
    file.write_text(json.dumps(variables))
    p = subprocess.run([STRETTO, "template", "-m", path, "--vars", file], capture_output=True)
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def named_templates(root):
    """Which template transformers' get_chat_template and from_pretrained take."""
    hi = {"messages": [{"role": "user", "content": "hi"}]}
    tools = {**hi, "tools": [{"name": "f"}]}
    text = {n: n + "{{ messages[0].content }}{{ tools|length if tools else '' }}" for n in ("one", "two", "three")}
    as_list = [{"name": "tool_use", "template": text["two"]}, {"name": "default", "template": text["one"]}]
    as_dict = {"default": text["one"], "tool_use": text["two"], "rag": text["three"]}
    odd = {"chat_template": {"rag": text["one"], "tool_use": text["two"]}}
    cases = [
        ("a list", {"tokenizer_config": {"chat_template": as_list}}, "onehi", "twohi1"),
        ("an object", {"tokenizer_config": {"chat_template": as_dict}}, "onehi", "twohi1"),
        ("a text", {"tokenizer_config": {"chat_template": text["one"]}}, "onehi", "onehi1"),
        ("a file before the config", {"tokenizer_config": {"chat_template": as_list},
                                      "chat_template.jinja": text["three"]}, "threehi", "threehi1"),
        ("chat_template.json", {"chat_template": {"chat_template": text["two"]}}, "twohi", "twohi1"),
        ("chat_template.json of several", {"chat_template": {"chat_template": as_dict}}, "onehi", "twohi1"),
        ("the config before chat_template.json", {"tokenizer_config": {"chat_template": text["one"]},
                                                  "chat_template": {"chat_template": text["two"]}},
         "onehi", "onehi1"),
        ("none called default", {"tokenizer_config": odd}, None, "twohi1"),
        ("null", {"tokenizer_config": {"chat_template": None}, "chat_template.jinja": text["one"]},
         "onehi", "onehi1"),
    ]
    for i, (what, files, plain, with_tools) in enumerate(cases):
        path = folder(root, f"named{i}", **files)
        for variables, want in ((hi, plain), (tools, with_tools), ({**hi, "tools": None}, plain)):
            code, out, err = template(path, variables)
            ok = (code, out) == (0, want) if want else code == 1 and "it has rag, tool_use" in err
            check(f"{what}, {sorted(variables)}", ok, f"{code} {out} {err}")
    path = folder(root, "additional", **{"chat_template.jinja": text["one"]})
    (path / "additional_chat_templates").mkdir()
    (path / "additional_chat_templates/tool_use.jinja").write_text(text["two"])
    check("additional_chat_templates", template(path, tools)[1] == "twohi1" and template(path, hi)[1] == "onehi")
    for i, value in enumerate([7, ["x"], {"default": 3}]):
        code, _, err = template(folder(root, f"unnamed{i}", tokenizer_config={"chat_template": value}), hi)
        check(f"chat_template {value}", code == 1 and "neither a text nor texts with names" in err, err)
    parts = ("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}")
    code, out, err = template(folder(root, "parts", tokenizer_config={"chat_template": parts}), hi)
    check("contents as lists of parts", (code, out) == (0, "hi") and "lists of parts" in err, err)


def given_faults(data):
    """The inputs of the data set that were read wrongly, with what its README says is right."""
    faults = data / "faults"
    if not faults.is_dir():
        print(f"skip: no {faults}; the folders made here are tried")
        return
    with tempfile.TemporaryDirectory() as name:
        hi = pathlib.Path(name) / "hi.json"
        hi.write_text('{"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": true}')
        n = pathlib.Path(name) / "n.jinja"
        n.write_text("{{ n }}")
        for what, args, want in [
            ("typed_content", ["-m", faults / "typed_content", "--vars", hi], "<s>User: hi</s>\nAssistant:"),
            ("groupby", ["--template", faults / "groupby.jinja", "--vars", faults / "groupby.json"],
             "assistant:1;user:1;"),
            ("vars_bigint", ["--template", n, "--vars", faults / "vars_bigint.json"],
             str(json.loads((faults / "vars_bigint.json").read_text())["n"])),
        ]:
            p = subprocess.run([STRETTO, "template", *args], capture_output=True)
            check(what, (p.returncode, p.stdout.decode()) == (0, want), p.stderr.decode() + p.stdout.decode())
    code, out, err = tokenize(faults / "max_length_1e30", "hi")
    check("max_length_1e30", code == 0 and len(json.loads(out)) == 2, err)


def main():
    with tempfile.TemporaryDirectory() as name:
        odd_json(pathlib.Path(name))
        named_templates(pathlib.Path(name))
    given_faults(pathlib.Path(sys.argv[2]))
    print("\n".join(wrong) or "folders are read as they are meant")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
