#!/usr/bin/env python3
"""The man pages and the completions of shells, from the rows of the command and the comments of the headers.

usage: make_man.py STRETTO FOLDER     (STRETTO: the built command)

Writes stretto.1, stretto-COMMAND.1, stretto.3, stretto.bash, .zsh and .fish into FOLDER, which is theirs alone.
The build calls it (cmake/install.cmake); nothing of it is committed.
"""
import json
import pathlib
import re
import subprocess
import sys

import completion

ROOT = pathlib.Path(__file__).resolve().parents[1]
SUMMARY = "runs, measures and squeezes language models"
DESCRIPTION = """\
stretto takes a language model and makes it fast on the hardware at hand: it runs it, measures it,
converts it, and proves by tests that the same rows give the same bits whatever the batch.

Models are GGUF files or Hugging Face folders. Where a command takes -m, the value is a file, a folder,
a name that stretto models lists, or hf:USER/REPO[:QUANT]; without -m the default model is used. A model
that is not on this machine yet is fetched on first use, after a question at the terminal or with --yes.

With --json, standard output is one JSON value and nothing else; messages and progress always go to
standard error."""
ENVIRONMENT = {
    "STRETTO_CPU": "A ceiling for the kernels: ref, avx2, avxvnni, avx512, avx512vnni, avx512vbmi, avx512bf16, amx; "
                   "neon, dotprod, i8mm. stretto info says what was chosen.",
    "STRETTO_BF16": "16: bf16 weights keep their 16 bits in memory, instead of 12 where that loses nothing.",
    "STRETTO_DEVICE": "Where models run, as --device says it, when that is not given.",
    "STRETTO_CUDA, STRETTO_NVRTC, STRETTO_NVML, STRETTO_OPENCL":
        "Paths of libcuda, of NVIDIA's run-time compiler, of the library that tells a card's joules, and of the OpenCL "
        "loader, where they are not where programs look for them.",
    "XDG_CACHE_HOME": "Models are kept in $XDG_CACHE_HOME/stretto/models, by default "
                      "~/.cache/stretto/models.",
    "NO_COLOR": "No colours when it is set and not empty.",
    "HF_TOKEN": "The token that stretto pull sends to hf: sources that ask for one.",
    "STRETTO_KERNELS": "Where compiled kernels of NVIDIA's cards are kept, instead of stretto/kernels in "
                       "$XDG_CACHE_HOME or ~/.cache; set and empty: nowhere.",
}
FAMILIES = "Models of these families run. Each is named as GGUF files name it, with its name in config.json:"
EXIT = {"0": "Done.", "1": "Failed; a sentence on standard error names the cause and the way out.",
        "2": "Usage: an option or operand is wrong."}


def roff(text):
    """Text as roff shows it: backslashes and hyphens as they are, no line taken for a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"(?<![\w*/])\*(\w[\w ]*)\*(?![\w*/])", r"\\fI\1\\fR", text)
    return re.sub(r"(?m)^(['.])", r"\\&\1", text)


def paragraphs(text):
    """Plain paragraphs; one whose lines are indented is shown as it stands."""
    out = []
    for part in text.strip("\n").split("\n\n"):
        if all(line.startswith("  ") for line in part.split("\n")):
            out.append(".PP\n.EX\n" + roff(part) + "\n.EE")
        else:
            out.append(".PP\n" + roff(part))
    return "\n".join(out)


def sentence(words):
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")


def terms(rows):
    return "\n".join(f".TP\n{term}\n{roff(words)}" for term, words in rows)


def page(name, section, version, summary, body):
    title = "Commands" if section == 1 else "Library"
    return (f'.\\" Made by tools/make_man.py; edit the rows of the command or stretto.h instead.\n'
            f'.TH {name.upper()} {section} "" "stretto {version}" "stretto {title}"\n'
            f".SH NAME\n{roff(name)} \\- {roff(summary)}\n{body.rstrip()}\n")


def option_term(option):
    flags = ", ".join(f"\\fB{roff(flag)}\\fR" for flag in option["flags"].split())
    return flags + (f" \\fI{roff(option['value'])}\\fR" if option["value"] else "")


def command_page(command, version):
    name = "stretto-" + command["name"]
    operands = f" \\fI{roff(command['operands'])}\\fR" if command["operands"] else ""
    body = f".SH SYNOPSIS\n\\fBstretto {roff(command['name'])}\\fR [\\fIoptions\\fR]{operands}\n"
    if command["description"]:
        body += f".SH DESCRIPTION\n{paragraphs(command['description'])}\n"
    if command["groups"]:
        body += ".SH OPTIONS\n"
    for group in command["groups"]:
        rows = [(option_term(o), sentence(o["help"])) for o in group["options"]]
        body += f".SS {roff(group['title'])}\n{terms(rows)}\n"
    body += f".SH EXIT STATUS\n{terms(EXIT.items())}\n.SH SEE ALSO\n.BR stretto (1)\n"
    return page(name, 1, version, command["summary"], body)


def family_rows(families):
    return [(f"\\fB{roff(f['name'])}\\fR", f"{f['title']}: {', '.join(f['model_types'])}") for f in families]


def main_page(rows, families, version):
    commands = [(f"\\fBstretto {roff(c['name'])}\\fR",
                 sentence(f"{c['summary']}; see stretto-{c['name']}(1)")) for c in rows]
    see = ",\n".join(f".BR stretto\\-{roff(c['name'])} (1)" for c in rows)
    variables = [(f"\\fB{name}\\fR", words) for name, words in ENVIRONMENT.items()]
    body = (".SH SYNOPSIS\n\\fBstretto\\fR \\fIcommand\\fR [\\fIoptions\\fR]\n.br\n"
            "\\fBstretto help\\fR [\\fIcommand\\fR]\n.br\n\\fBstretto \\-\\-version\\fR\n"
            f".SH DESCRIPTION\n{paragraphs(DESCRIPTION)}\n.SH COMMANDS\n{terms(commands)}\n"
            f".SH FAMILIES\n{paragraphs(FAMILIES)}\n{terms(family_rows(families))}\n"
            f".SH ENVIRONMENT\n{terms(variables)}\n"
            f".SH EXIT STATUS\n{terms(EXIT.items())}\n.SH SEE ALSO\n{see},\n.BR stretto (3)\n")
    return page("stretto", 1, version, SUMMARY, body)


# ---- stretto.3 from the header ------------------------------------------------------------
def comment_text(block):
    """The words of a /* ... */ block without its stars."""
    lines = [re.sub(r"^ ?\*? ?", "", line) for line in block[2:-2].split("\n")]
    return "\n".join(line.rstrip() for line in lines).strip()


def declarations(header):
    """The public part of the header as chunks of comment and code: (words, code)."""
    first = "#define STRETTO_VERSION_MAJOR" if "#define STRETTO_VERSION_MAJOR" in header else "typedef struct"
    start, end = header.index(first), header.rindex("#ifdef __cplusplus")
    words, code, chunks = [], [], []

    def close():
        if words or code:
            chunks.append(("\n".join(words), "\n".join(code)))
        words.clear()
        code.clear()

    lines = iter(header[start:end].split("\n"))
    depth = 0
    for line in lines:
        if line.startswith("/*"):
            close()
            block = line
            while "*/" not in block:
                block += "\n" + next(lines)
            words.append(comment_text(block.strip()))
        elif not line.strip() and not depth:
            close()
        else:
            depth += line.count("{") - line.count("}")
            code.append(line)
    close()
    return chunks


def library_page(version):
    header = (ROOT / "include/stretto/stretto.h").read_text()
    body = (".SH SYNOPSIS\n.EX\n#include <stretto/stretto.h>\n.EE\n.PP\n"
            "cc program.c $(pkg\\-config \\-\\-cflags \\-\\-libs stretto)\n.SH DESCRIPTION\n")
    opening = comment_text(header[:header.index("*/") + 2]).split(":", 1)[1].strip()
    body += paragraphs(opening[:1].upper() + opening[1:]) + "\n"
    further = []
    for name, title in (("compress", "squeezing"), ("train", "learning")):
        more = (ROOT / f"include/stretto/{name}.h").read_text()
        about = comment_text(more[:more.index("*/") + 2]).split(":", 1)[1].strip()
        further += [(f"---- {title}: <stretto/{name}.h> ----", ""), (about[:1].upper() + about[1:], ""),
                    *declarations(more)]
    for words, code in [*declarations(header), *further]:
        title = re.fullmatch(r"-+ ?([^-]+?) ?-*", words)
        if title:
            body += f".SS {roff(title.group(1)[:1].upper() + title.group(1)[1:])}\n"
            words = ""
        if code:
            code = re.sub(r" {2,}\*/", " */", code.replace("STRETTO_API ", ""))
            body += f".PP\n.EX\n{roff(code)}\n.EE\n"
        if words:
            body += f".RS 4\n{paragraphs(words)}\n.RE\n" if code else paragraphs(words) + "\n"
    example = ROOT / "tests/api/example.c"
    if example.exists():
        body += f".SH EXAMPLE\n.EX\n{roff(example.read_text().rstrip())}\n.EE\n"
    body += ".SH SEE ALSO\n.BR stretto (1)\n"
    return page("stretto", 3, version, "a library that " + SUMMARY, body)


def make(program):
    help_all = json.loads(subprocess.run([program, "help", "--json"], check=True, text=True,
                                         capture_output=True).stdout)
    families = json.loads(subprocess.run([program, "info", "--families", "--json"], check=True, text=True,
                                         capture_output=True).stdout)
    rows, version = help_all["commands"], help_all["version"]
    made = {"stretto.1": main_page(rows, families, version), "stretto.3": library_page(version),
            "stretto.bash": completion.bash(rows), "stretto.zsh": completion.zsh(rows),
            "stretto.fish": completion.fish(rows)}
    for command in rows:
        made[f"stretto-{command['name']}.1"] = command_page(command, version)
    return made


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    made, folder = make(sys.argv[1]), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in made:              # of a command that there was
            path.unlink()
    for name, text in made.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
