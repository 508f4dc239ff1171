#!/usr/bin/env python3
"""docs/openapi.json from the rows of the server's fields and routes (programs/serve), so that it says what they say.

    tools/make_openapi.py [--check]      --check: compare with the file, write nothing

What rows cannot say, the shapes of answers and of fields that have a function of their own, stands here. A route or a
field that this page does not know is an error."""
import json
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SERVE = os.path.join(ROOT, "programs", "serve")
OUT = os.path.join(ROOT, "docs", "openapi.json")


def read(name):
    with open(os.path.join(SERVE, name)) as f:
        return re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)


def number(text):
    text = text.strip()
    known = {"ASK_CHOICES": 16, "JOB_LOGPROBS": 20, "INT32_MAX": 2 ** 31 - 1}
    if text in known:
        return known[text]
    m = re.fullmatch(r"1 << (\d+)", text)
    return 1 << int(m[1]) if m else float(text)


def rows(name, array):
    """[(field, kind, does, min, max, words)]"""
    body = re.search(r"static const struct field %s\[\] = \{(.*?)\n\};" % array, read(name), re.S)[1]
    out = []
    for m in re.finditer(r'\{\s*"([^"]+)",\s*FIELD_(\w+),\s*FIELD_(\w+),\s*([^,]+(?:\([^)]*\))?),\s*([^,]+),'
                         r'\s*([^,]+),\s*(\w+),\s*(.*?)\s*\}', body, re.S):
        out.append((m[1], m[2], m[3], number(m[5]), number(m[6]), m[8]))
    if len(out) != body.count('{ "'):
        sys.exit(f"make_openapi: {name}: {len(out)} of {body.count('{ ' + chr(34))} rows of {array} were understood")
    return out


def routes():
    out = []
    for name in sorted(os.listdir(SERVE)):
        if name.startswith("api_") and name.endswith(".c"):
            for body in re.findall(r"static const struct route \w+\[\] = \{(.*?)\};", read(name), re.S):
                out += [(m[1].lower(), m[2], name) for m in re.finditer(r'\{ "(\w+)", "([^"]+)"', body)]
    return out


# ---- what rows do not say --------------------------------------------------------------------------------

def ref(name):
    return {"$ref": "#/components/schemas/" + name}


def obj(required=(), **properties):
    return {"type": "object", "required": list(required), "properties": properties}


def array(items, **more):
    return {"type": "array", "items": items, **more}


STR, INT, NUM, BOOL = ({"type": t} for t in ("string", "integer", "number", "boolean"))
COUNT = {"type": "integer", "minimum": 0}
ID = {"type": "integer", "minimum": 0, "maximum": 2 ** 31 - 1}
PARTS = array(obj(["type", "text"], type={"const": "text"}, text=STR))
CONTENT = {"anyOf": [STR, PARTS]}
NULL = {"type": "null"}
PROMPT = {"anyOf": [STR, array(STR, minItems=1, maxItems=16), array(ID, minItems=1),
                    array(array(ID, minItems=1), minItems=1, maxItems=16)]}
OWN = {
    "messages": array(obj(["role", "content"], role={"enum": ["system", "developer", "user", "assistant"]},
                          content=CONTENT), minItems=1),
    "stop": {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 1024},
                       array({"type": "string", "minLength": 1, "maxLength": 1024}, maxItems=16)]},
    "logit_bias": {"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
                   "propertyNames": {"pattern": "^([0-9]{1,2}| [a-z]{1,20})$"}},
    "stream_options": obj(include_usage=BOOL), "cache_prompt": {"anyOf": [BOOL, {"const": "exact"}]},
    "id_slot": {"type": "integer", "minimum": -1}, "prompt": PROMPT, "input": PROMPT, "content": PROMPT,
    "encoding_format": {"enum": ["float", "base64"]}, "samplers": array(STR),
    "reasoning_format": {"enum": ["none", "auto", "deepseek", "deepseek-legacy"]},
    "chat_template_kwargs": obj(enable_thinking=BOOL), "thinking": obj(["type"], type={"enum": ["enabled", "disabled"]},
                                                                      budget_tokens=COUNT),
    "reasoning": obj(effort={"enum": ["none", "minimal", "low", "medium", "high", None]}), "think": BOOL,
    "prediction": obj(["type", "content"], type={"const": "content"}, content=CONTENT),
    "reasoning_effort": {"enum": ["none", "minimal", "low", "medium", "high"]}, "modalities": {"const": ["text"]},
    "lora": array(obj(["id", "scale"], id={"type": "integer", "minimum": 0, "maximum": 0}, scale=NUM), maxItems=0),
    "response_format": obj(["type"], type={"const": "text"}), "moderation": {}, "tools": array({}, maxItems=0),
    "functions": array({}, maxItems=0), "tool_choice": {"const": "none"}, "function_call": {"const": "none"},
    "logprobs": {"type": "integer", "minimum": 0, "maximum": 5},
}
USAGE = obj(["prompt_tokens", "completion_tokens", "total_tokens"], prompt_tokens=COUNT, completion_tokens=COUNT,
            total_tokens=COUNT, prompt_tokens_details={"type": "object"})
FINISH = {"enum": ["stop", "length", None]}
SCHEMAS = {
    "Error": obj(["error"], error=obj(["message", "type", "code"], message=STR, type=STR,
                                      code={"type": ["integer", "string"]}, param={"type": ["string", "null"]},
                                      n_prompt_tokens=COUNT, n_ctx=COUNT)),
    "AnthropicError": obj(["type", "error"], type={"const": "error"}, error=obj(["type", "message"], type=STR,
                                                                                message=STR), request_id=STR),
    "OllamaError": obj(["error"], error=STR),
    "Message": obj(["id", "type", "role", "model", "content", "stop_reason", "usage"], id=STR,
                   type={"const": "message"}, role={"const": "assistant"}, model=STR,
                   content=array(obj(["type"], type=STR)),
                   usage=obj(["input_tokens", "output_tokens"], input_tokens=COUNT, output_tokens=COUNT)),
    "Response": obj(["id", "object", "created_at", "status", "model", "output"], id=STR, object={"const": "response"},
                    status=STR, model=STR, output=array(obj(["type"], type=STR))),
    "Usage": USAGE,
    "ChatCompletion": obj(["id", "object", "created", "model", "choices", "usage"], id=STR,
                          object={"const": "chat.completion"}, created=INT, model=STR, usage=ref("Usage"),
                          choices=array(obj(["index", "message", "finish_reason"], index=COUNT, finish_reason=FINISH,
                                            message=obj(["role", "content"], role={"const": "assistant"},
                                                        content={"type": ["string", "null"]},
                                                        reasoning_content=STR)), minItems=1)),
    "Completion": obj(["id", "object", "created", "model", "choices", "usage"], id=STR,
                      object={"const": "text_completion"}, created=INT, model=STR, usage=ref("Usage"),
                      choices=array(obj(["index", "text", "finish_reason"], index=COUNT, text=STR,
                                        finish_reason=FINISH), minItems=1)),
    "Embeddings": obj(["object", "data", "model", "usage"], object={"const": "list"}, model=STR,
                      usage=obj(["prompt_tokens", "total_tokens"], prompt_tokens=COUNT, total_tokens=COUNT),
                      data=array(obj(["object", "index", "embedding"], object={"const": "embedding"}, index=COUNT,
                                     embedding={"anyOf": [array(NUM), STR]}))),
    "Model": obj(["id", "object", "created", "owned_by"], id=STR, object={"const": "model"}, created=INT,
                 owned_by=STR),
    "Models": obj(["object", "data"], object={"const": "list"}, data=array(ref("Model"))),
    "Tokens": obj(["tokens"], tokens=array({"anyOf": [ID, obj(["id", "piece"], id=ID,
                                                              piece={"type": ["string", "array"]})]})),
    "Text": obj(["content"], content=STR), "Prompt": obj(["prompt"], prompt=STR),
    "Count": obj(["input_tokens"], input_tokens=COUNT), "Anything": {"type": "object"}, "List": array({}),
    "Answers": {"type": ["object", "array"]},
}
# (method, path): tables of fields (file, array), or a schema; the answer's schema; what it does.
LORA = array(obj(["id", "scale"], id=COUNT, scale=NUM))
CHAT, TEXT = [("api_openai_chat.c", "rows")], [("api_openai_text.c", "rows")]
NATIVE = [("api_completion.c", "rows")]
OPTIONS = obj(num_predict={"type": "integer", "minimum": -2, "maximum": 64}, seed=INT,
              temperature={"type": "number", "minimum": 0, "maximum": 100})
OPERATIONS = {
    ("post", "/v1/chat/completions"): (CHAT, "ChatCompletion", "an answer in a conversation"),
    ("post", "/v1/chat/completions/input_tokens"): (CHAT, "Count", "how many tokens a conversation is"),
    ("post", "/apply-template"): (CHAT, "Prompt", "a conversation as the model's template writes it"),
    ("post", "/v1/completions"): (TEXT, "Completion", "a text that goes on"),
    ("post", "/v1/embeddings"): ([("api_embeddings.c", "rows")], "Embeddings", "vectors of texts"),
    ("get", "/v1/models"): (None, "Models", "the models that are served"),
    ("get", "/v1/models/*"): (None, "Model", "one of them"),
    ("post", "/tokenize"): (obj(content=STR, add_special=BOOL, parse_special=BOOL, with_pieces=BOOL), "Tokens",
                            "a text as tokens"),
    ("post", "/detokenize"): (obj(tokens=array(ID)), "Text", "tokens as a text"),
    ("post", "/v1/rerank"): ({"type": "object"}, None, "no model here ranks documents: 501"),
    ("post", "/v1/reranking"): ({"type": "object"}, None, "no model here ranks documents: 501"),
    ("post", "/completion"): (NATIVE, "Answers", "a text that goes on, as llama.cpp's server has it"),
    ("post", "/infill"): (NATIVE, "Answers", "a gap in a text"),
    ("post", "/v1/messages"): ([("api_messages.c", "rows")], "Message", "an answer, as the Anthropic API has it"),
    ("post", "/v1/messages/count_tokens"): ([("api_messages.c", "rows")], "Count", "how many tokens that reads"),
    ("post", "/v1/responses"): ([("api_responses.c", "rows")], "Response", "an answer; nothing is kept"),
    ("post", "/v1/responses/input_tokens"): ([("api_responses.c", "rows")], "Count", "how many tokens that reads"),
    ("get", "/v1/responses/*"): (None, None, "answers are not kept: 404"),
    ("delete", "/v1/responses/*"): (None, None, "answers are not kept: 404"),
    ("post", "/api/chat"): (obj(["model", "messages"], model=STR, messages=OWN["messages"], stream=BOOL,
                                options=OPTIONS), "Anything", "an answer, as ollama has it"),
    ("post", "/api/generate"): (obj(["model", "prompt"], model=STR, prompt=STR, system=STR, raw=BOOL, stream=BOOL,
                                    options=OPTIONS), "Anything", "a text that goes on"),
    ("post", "/api/embed"): (obj(["model", "input"], model=STR, input=PROMPT), "Anything", "vectors of texts"),
    ("post", "/api/embeddings"): (obj(["model", "prompt"], model=STR, prompt=STR), "Anything", "the vector of a text"),
    ("get", "/api/tags"): (None, "Anything", "the models that are served"),
    ("get", "/api/ps"): (None, "Anything", "the models that are served"),
    ("get", "/api/version"): (None, "Anything", "the version of ollama's API"),
    ("post", "/api/show"): (obj(["model"], model=STR), "Anything", "what a model is"),
    **{(method, "/api/" + word): ({"type": "object"} if method == "post" else None, None,
                                  "models are named on the command line alone: 501")
       for method, word in (("post", "pull"), ("post", "push"), ("post", "create"), ("post", "copy"),
                            ("delete", "delete"))},
    ("get", "/"): (None, "text/html", "a page to talk to the model"),
    ("get", "/lora-adapters"): (None, "List", "the model's adapters, and what they weigh for requests that do not say"),
    ("post", "/lora-adapters"): (LORA, "Anything", "what they weigh from now on; those that are not named: nothing"),
    ("get", "/health"): (None, "Anything", "200 once models are there, 503 before and while draining"),
    ("get", "/props"): (None, "Anything", "what the model was loaded with"),
    ("get", "/slots"): (None, "List", "who is being answered"),
    ("post", "/slots/*"): (obj(filename=STR, model=STR, cache_salt=STR, prompt_cache_key=STR, lora=LORA),
                           "Anything",
                           "?action=save, restore or erase: the last text of a place, to a file and back"),
    ("get", "/metrics"): (None, "text/plain", "counters for Prometheus"),
}
SHARED = [("field.c", a) for a in ("sampling", "job", "llama")]
KINDS = {"BOOL": BOOL, "INT": INT, "REAL": NUM, "TEXT": STR, "OBJECT": {"type": "object"}, "ARRAY": array({}),
         "ANY": {}}
REQUIRED = {"messages", "prompt", "input"}


def field(name, kind, does, low, high, words):
    if name in OWN and (kind, name) != ("BOOL", "logprobs"):
        s = dict(OWN[name])
    else:
        s = dict(KINDS[kind])
        if kind in ("INT", "REAL") and (low or high) and does in ("READ", "NOTHING"):
            s["minimum"] = int(low) if kind == "INT" else low
            s["maximum"] = int(high) if kind == "INT" else high
    return s


FIELDS = {}     # what several requests have, once


def shared(name, s, needed):
    s = s if needed or not s else {"anyOf": [s, NULL]}         # null counts as not there
    if FIELDS.setdefault(name, s) != s:
        return s
    return ref("field." + name)


def request(tables):
    """The object; what is refused is left out of it, and so cases of a generator are those that are served."""
    properties, refused = {}, []
    for name, array_name in tables + SHARED:
        for f, kind, does, low, high, words in rows(name, array_name):
            if f in properties or f in refused:
                continue
            if does in ("REFUSED", "UNSUPPORTED"):
                refused.append(f)
            else:
                properties[f] = shared(f, field(f, kind, does, low, high, words), f in REQUIRED)
    need = sorted(REQUIRED & set(properties))
    out = {"type": "object", "required": need, "properties": properties, "additionalProperties": False}
    if refused:
        out["description"] = "Refused by name where they ask for something: " + ", ".join(refused) + "."
    return out


def operation(method, path, tables, answer, words):
    out = {"summary": words, "operationId": re.sub(r"\W+", "_", f"{method}{path}").strip("_"), "responses": {}}
    good = {"description": "the answer"}
    if answer and answer.startswith("text/"):
        good["content"] = {answer: {"schema": STR}}
    elif answer:
        good["content"] = {"application/json": {"schema": ref(answer)}}
        if isinstance(tables, list) and answer in ("ChatCompletion", "Completion", "Message", "Response",
                                                            "Answers"):
            good["content"]["text/event-stream"] = {"schema": obj(["data"], data=STR, event=STR)}
    if answer:
        if path in ("/api/chat", "/api/generate"):
            good["content"]["application/x-ndjson"] = {"schema": {}}
        if path == "/":                 # for those who ask for no page
            good["content"]["text/plain"] = {"schema": STR}
        out["responses"]["200"] = good
    family = "Anthropic" if path.startswith("/v1/messages") else "Ollama" if path.startswith("/api/") else ""
    error = {"$ref": f"#/components/responses/{family}Error"}
    for status in ("400", "401", "404", "405", "408", "413", "415", "431", "501", "503", "529"):
        out["responses"][status] = error
    if "*" in path:
        out["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": STR}]
    if tables is not None:
        body = request(tables) if isinstance(tables, list) else tables
        out["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return out


def main():
    paths, version = {}, re.search(r"project\(\w+ VERSION ([\d.]+)", open(os.path.join(ROOT, "CMakeLists.txt")).read())
    for method, path, name in routes():
        if (method, path) not in OPERATIONS:
            sys.exit(f"make_openapi: {name}: {method.upper()} {path} is not in this tool's OPERATIONS: add what it "
                     "reads and answers")
        tables, answer, words = OPERATIONS[method, path]
        paths.setdefault(path.replace("*", "{id}"), {})[method] = operation(method, path, tables, answer, words)
    page = {"openapi": "3.1.0", "info": {"title": "stretto serve", "version": version[1] if version else "0",
            "description": "Routes below /v1 are there without it too. A field that nobody knows is taken and named in "
                           "X-Stretto-Ignored; null counts as not there."},
            "security": [{}, {"key": []}], "paths": paths,
            "components": {"schemas": {**SCHEMAS, **{"field." + k: v for k, v in FIELDS.items()}},
                           "responses": {family + "Error": {"description": "why not, and what to do", "content": {
                               "application/json": {"schema": ref(family + "Error")}}}
                               for family in ("", "Anthropic", "Ollama")},
                           "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}}
    text = json.dumps(page, indent=1) + "\n"
    named = set(re.findall(r'"#/components/(\w+)/([^"]+)"', text))
    lost = [n for kind, n in named if n not in page["components"][kind]]
    if lost:
        sys.exit(f"make_openapi: nothing says what {', '.join(sorted(lost))} is")
    if "--check" in sys.argv[1:]:
        if not os.path.isfile(OUT) or open(OUT).read() != text:
            sys.exit("docs/openapi.json is not what the server's rows say: run tools/make_openapi.py")
        return
    with open(OUT, "w") as f:
        f.write(text)


main()
