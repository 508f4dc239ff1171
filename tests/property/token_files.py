"""Random tokenizer files of Hugging Face folders: tokenizer.json with the pipelines that models use, and what stands
beside it (tokenizer_config.json, special_tokens_map.json, added_tokens.json), which transformers lets overrule it.

The classes named in tokenizer_config.json matter: BertTokenizer, LlamaTokenizer and their like make their pipeline
anew, so they are named only beside the pipeline that they would make. Everything else is read as it stands."""
import copy
import functools
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from oracle import files  # noqa: E402

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|")
KINDS = {"llama": ("bytes", "spm"), "mistral": ("spm", "spm", "bytes"), "qwen2": ("qwen",),
         "qwen3": ("qwen", "bytes"), "phi3": ("spm",), "gpt2": ("bytes",), "bert": ("wordpiece",),
         "gemma2": ("gemma", "gemma", "spm"), "gemma3": ("gemma", "gemma", "spm"),
         "gemma3_text": ("gemma", "gemma", "spm")}
GENERIC = ("PreTrainedTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
WORDS = ("the then them hero in on of and a to we've I'll they're can't Hello WORLD  two   three four\n\nfive\tsix "
         "naïve Ångström ÄÖÜ İstanbul ﬁne ½ ² Ω≈ç שלום नमस्ते 漢字かな 한국어 🦙 👩‍👧 e\u0301 x\u0301\u0323 "
         "3.14159 1234567 0 12 "
         "a_b-c foo(bar) \"q\" <s> </s> <unk> [UNK] [CLS] ## ##s ▁ ▁the \u00a0 \u3000 \u200b \r\n . ! ?").split(" ")
NAMES = ("<x>", "<|im_start|>", "<|im_end|>", "[INST]", "<tool>", "zq", "the", "<a b>", "Ünï", "<|0|>", "漢")


class Text:
    def __init__(self):
        self.files, self.config, self.features = {}, {}, set()
        self.size, self.texts = 0, []


@functools.lru_cache(None)
def plain_file(size, kind):
    return files.tokenizer_json(size, kind)


def special_names(kind):
    """(unknown, beginning, end, padding) of a vocabulary."""
    return {"bytes": (None, "<|bos|>", "<|eos|>", "<|pad|>"), "qwen": (None, "<|bos|>", "<|eos|>", "<|pad|>"),
            "spm": ("<unk>", "<s>", "</s>", None), "gemma": ("<unk>", "<s>", "</s>", None),
            "wordpiece": ("[UNK]", "[CLS]", "[SEP]", "[PAD]")}[kind]


def split(pattern, behavior="Isolated", regex=True):
    return {"type": "Split", "pattern": {"Regex" if regex else "String": pattern}, "behavior": behavior,
            "invert": False}


def byte_level(prefix, use_regex):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def sequence(what, *parts):
    return parts[0] if len(parts) == 1 else {"type": "Sequence", what: list(parts)}


def pipeline_of_bytes(r, j, x):
    forms = [None, None, None, {"type": "NFC"}, {"type": "NFKC"}, {"type": "Lowercase"}]
    j["normalizer"] = r.choice(forms)
    kind = r.choice(("plain", "prefix", "llama3", "qwen", "digits"))
    if kind == "plain" or kind == "prefix":
        j["pre_tokenizer"] = byte_level(kind == "prefix", True)
        if j["normalizer"] is None:
            x.classes += ("GPT2Tokenizer", "GPT2TokenizerFast")
    elif kind == "digits":
        j["pre_tokenizer"] = sequence("pretokenizers", {"type": "Digits", "individual_digits": r.random() < 0.5},
                                      byte_level(False, True))
    else:
        j["pre_tokenizer"] = sequence("pretokenizers", split(LLAMA3 if kind == "llama3" else QWEN2),
                                      byte_level(False, False))
        j["model"]["ignore_merges"] = kind == "llama3"
    x.prefix = kind == "prefix"
    j["decoder"] = byte_level(True, True)
    j["post_processor"] = byte_level(True, True)


def pipeline_of_qwen(r, j, x):
    """Qwen2Tokenizer's, which transformers makes anew for every qwen2."""
    j["normalizer"] = {"type": "NFC"}
    j["pre_tokenizer"] = sequence("pretokenizers", split(QWEN2), byte_level(False, False))
    j["decoder"] = j["post_processor"] = byte_level(False, False)
    x.classes += ("Qwen2Tokenizer", "Qwen2TokenizerFast")


def spm_decoder(strip):
    parts = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
             {"type": "Fuse"}]
    if strip:
        parts.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": parts}


def pipeline_of_spm(r, j, x):
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    kind = r.choice(("prepend", "always", "first", "never", "replace"))
    j["normalizer"] = j["pre_tokenizer"] = None
    if kind == "prepend":
        j["normalizer"] = sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, replace)
    elif kind == "replace":
        j["normalizer"] = replace
    else:
        j["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": kind,
                              "split": r.random() < 0.4}
        if kind == "first" and not j["pre_tokenizer"]["split"]:  # its prepend_scheme where legacy is false
            x.classes += ("LlamaTokenizer", "LlamaTokenizerFast")
    j["decoder"] = spm_decoder(kind not in ("never", "replace"))
    x.prefix = kind not in ("never", "replace")


def pipeline_of_gemma(r, j, x):
    j["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    j["pre_tokenizer"] = split(" ", "MergedWithPrevious", regex=False)
    j["decoder"] = spm_decoder(False)
    x.classes += ("GemmaTokenizer", "GemmaTokenizerFast")


def pipeline_of_wordpiece(r, j, x):
    j["normalizer"] = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": r.random() < 0.7,
                       "strip_accents": r.choice((None, None, True, False)), "lowercase": r.random() < 0.6}
    j["decoder"]["cleanup"] = True
    x.classes += ("BertTokenizer", "BertTokenizer", "BertTokenizerFast")


PIPELINES = {"bytes": pipeline_of_bytes, "qwen": pipeline_of_qwen, "spm": pipeline_of_spm,
             "gemma": pipeline_of_gemma, "wordpiece": pipeline_of_wordpiece}


def template(before, after, ids):
    def item(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}

    a = {"Sequence": {"id": "A", "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [*map(item, before), a, *map(item, after)],
            "pair": [a, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {n: {"id": n, "ids": [ids[n]], "tokens": [n]} for n in before + after}}


def post_processor(r, j, kind, ids):
    unknown, bos, eos, _ = special_names(kind)
    if kind == "wordpiece":
        j["post_processor"] = r.choice((template([bos], [eos], ids), {"type": "BertProcessing",
                                        "sep": [eos, ids[eos]], "cls": [bos, ids[bos]]}))
        return
    own = j["post_processor"] if kind in ("bytes", "qwen") else None
    what = r.choice(("own", "own", "bos", "bos", "both", "eos"))
    if what == "own":
        j["post_processor"] = own
        return
    t = template([bos] if what in ("bos", "both") else [], [eos] if what in ("eos", "both") else [], ids)
    j["post_processor"] = sequence("processors", own, t) if own and r.random() < 0.5 else t


def more_tokens(r, j, x, names):
    """Tokens that only a fine-tuner's files know, in the places where such files name them."""
    config, at = x.tokenizer_config, x.size
    decoder, inside = {}, True
    for name in r.sample(names, r.choice((0, 0, 1, 2, 4))):
        entry = {"id": at, "content": name, "single_word": r.random() < 0.3, "lstrip": r.random() < 0.2,
                 "rstrip": r.random() < 0.2, "normalized": r.random() < 0.25, "special": r.random() < 0.6}
        if name in j["model"]["vocab"]:
            continue
        j["added_tokens"].append(entry)
        inside = inside and r.random() < 0.5
        if inside:                      # the vocabulary's own tokens come first
            j["model"]["vocab"][name] = at
        decoder[str(at)] = {k: v for k, v in entry.items() if k != "id"}
        at += 1
    x.in_texts = [e["content"] for e in j["added_tokens"]]
    rest = [n for n in names if n not in x.in_texts and n not in j["model"]["vocab"]]
    if r.random() < 0.25:
        decoder.update({str(e["id"]): {k: v for k, v in e.items() if k != "id"} for e in j["added_tokens"]})
        if r.random() < 0.6:            # known to this place alone
            name = rest.pop()
            x.features.add("token of added_tokens_decoder alone")
            decoder[str(at)] = {"content": name, "single_word": False, "lstrip": False, "rstrip": False,
                                "normalized": False, "special": r.random() < 0.5}
            x.in_texts.append(name)
            at += 1
        config["added_tokens_decoder"] = decoder
    if r.random() < 0.15:
        name = rest.pop()
        x.features.add("token of a list alone")
        config[r.choice(("additional_special_tokens", "extra_special_tokens"))] = [name]
        x.in_texts.append(name)
        at += 1
    if r.random() < 0.08:
        name = rest.pop()
        x.features.add("end token of its name alone")
        config["eos_token"] = name
        x.in_texts.append(name)
        at += 1
    x.size = at


def name_of(r, name, x):
    """How tokenizer_config.json spells a special token."""
    return r.choice((name, name, {"__type": "AddedToken", "content": name, "lstrip": False, "normalized": False,
                                  "rstrip": False, "single_word": False, "special": True}))


def beside(r, family, kind, x):
    config = x.tokenizer_config
    unknown, bos, eos, pad = special_names(kind)
    for key, name in (("unk_token", unknown), ("bos_token", bos), ("eos_token", eos), ("pad_token", pad)):
        if kind == "wordpiece" and key in ("bos_token", "eos_token"):
            key = {"bos_token": "cls_token", "eos_token": "sep_token"}[key]
        if name and r.random() < 0.75:
            config[key] = name_of(r, name, x)
        elif r.random() < 0.3 and key == "bos_token":
            config[key] = None
            x.features.add("bos null")
    config["tokenizer_class"] = r.choice(GENERIC + x.classes)
    if config["tokenizer_class"] not in GENERIC:
        x.features.add("class " + config["tokenizer_class"].removesuffix("Fast"))
    if config["tokenizer_class"] not in GENERIC or kind == "qwen":      # a qwen2 is always of that class
        config.setdefault("unk_token", unknown or eos)           # the classes' own names are not in here
        if kind == "wordpiece":
            config.setdefault("mask_token", "[MASK]")
        else:
            for key, name in (("bos_token", bos), ("eos_token", eos), ("pad_token", pad or unknown)):
                if key not in config:
                    config[key] = name
            if kind == "gemma":
                config["mask_token"] = "<unk>"
    config["model_max_length"] = r.choice((512, 1000000000000000019884624838656, 1e30, 2048))
    config["clean_up_tokenization_spaces"] = r.random() < 0.4
    if kind != "wordpiece" and r.random() < 0.3:
        x.features.add("add_bos_token")
        config["add_bos_token"] = r.random() < 0.6
        if r.random() < 0.6:
            config["add_eos_token"] = r.random() < 0.4
    if kind == "wordpiece" and r.random() < 0.5:
        x.features.add("bert switches")
        for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
            if r.random() < 0.6:
                config[key] = r.random() < 0.5
    if config["tokenizer_class"].startswith(("GPT2", "Llama")) and r.random() < 0.6:
        config["add_prefix_space"] = r.random() < 0.5
        x.features.add("add_prefix_space")
    elif config["tokenizer_class"].startswith("GPT2"):
        config["add_prefix_space"] = x.prefix
    if config["tokenizer_class"].startswith("Llama"):
        config["legacy"] = False
    if r.random() < 0.3:
        x.files["special_tokens_map.json"] = {
            k: {n: x for n, x in v.items() if n != "__type"} if isinstance(v, dict) else v
            for k, v in config.items() if k.endswith("_token") and isinstance(v, (str, dict))}
    # Without it the model's family names the class, and so what transformers makes of the pipeline.
    if x.features or kind == "wordpiece" or family not in ("mistral", "phi3") or r.random() < 0.8:
        x.files["tokenizer_config.json"] = config


def ask_model(r, kind, x, ids):
    """What config.json and generation_config.json say of the ends of a text."""
    _, bos, eos, _ = special_names(kind)
    if r.random() < 0.7 and kind != "wordpiece":
        x.config["bos_token_id"] = ids[bos]
        x.config["eos_token_id"] = r.choice((ids[eos], [ids[eos], ids[bos]]))
    if r.random() < 0.3:
        x.files["generation_config.json"] = r.choice(({}, {"eos_token_id": ids[eos]}, {"temperature": 0.6}))


def texts(r, j, x):
    out = ["", " ", "the theme of it"]
    for _ in range(5):
        parts = []
        for _ in range(r.randrange(1, 9)):
            parts.append(r.choice(x.in_texts) if x.in_texts and r.random() < 0.3 else r.choice(WORDS))
            parts.append(r.choice((" ", " ", " ", "", "  ", "\n")))
        out.append("".join(parts))
    # Words that look like tokens which the model itself may not know.
    return out + [f"{name}the 1{name} {name}" for name in x.in_texts if name not in j["model"]["vocab"]]


def make(r, family):
    x = Text()
    x.classes, x.tokenizer_config, x.prefix = (), {}, False
    kind = r.choice(KINDS.get(family, ("bytes",)))
    basic = {"qwen": "bpe", "bytes": "bpe", "gemma": "spm"}.get(kind, kind)
    x.size = r.choice((291, 304, 323))
    j = copy.deepcopy(plain_file(x.size, basic))
    ids = j["model"]["vocab"]
    if r.random() < 0.3:                # pairs, as newer files have them
        j["model"]["merges"] = [m.split(" ") for m in j["model"].get("merges", [])]
    if basic == "wordpiece":
        j["model"].pop("merges", None)
    PIPELINES[kind](r, j, x)
    post_processor(r, j, kind, ids)
    # The library's decoder of bytes takes the letters of such a name for bytes, which we do not imitate.
    more_tokens(r, j, x, [n for n in NAMES if n.isascii() or basic != "bpe"])
    beside(r, family, kind, x)
    ask_model(r, kind, x, ids)
    x.features.add("tokens " + kind)
    x.texts = texts(r, j, x)
    x.files["tokenizer.json"] = j
    return x
