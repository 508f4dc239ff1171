"""Completions of stretto for bash, zsh and fish, from the rows of the command (stretto help --json).

Names of models are asked of the program when they are needed: `stretto models list -q`. They come from names
of files, so no shell may expand them again.
"""
import re

MADE = "# Completion of stretto for {}. Made by tools/make_man.py from the rows of the command.\n"
ALIASES = {"list": "list models", "rm": "remove models"}     # main.c takes them for `models list`, `models rm`


def kind_of(option):
    """What may follow an option: ("words", [..]), ("models", ""), ("files", ""), ("folders", ""), ("text", ""),
    or None for a flag."""
    value, flags = option["value"] or "", option["flags"].split()
    if option["kind"] == "flag":
        return None
    if option["kind"] == "choice":
        return "words", value.split("|")
    if value == "MODEL":
        return "models", ""
    if "--hf-repo" in flags:
        return "hub", ""
    if option["kind"] == "strategies":
        return "words", re.search(r": ((?:\w+, )+\w+), or several", option["help"]).group(1).split(", ")
    if value == "DEVICE":
        return "words", re.findall(r"(?<![\w:])\w+(?=[,:]|$)", option["help"].split(": ")[1].split(";")[0])
    if value == "DIR":
        return "folders", ""
    if value.startswith(("FILE", "OUT")) or "--file" in flags:
        return "files", ""
    return "text", ""


def operand_kind(command):
    """The same of what a command works on."""
    operands = command["operands"]
    if re.fullmatch(r"[a-z0-9|]+", operands):
        return "words", operands.split("|")
    if command["name"] == "models":
        return "actions", ["list", "rm"]
    if "MODEL" in operands or operands.startswith("IN"):
        return "models", ""
    return ("files", "") if operands else ("none", "")


def options_of(command):
    return [o for group in command["groups"] for o in group["options"]]


def short(words):
    """A help sentence as a list shows it: its first clause, without the default."""
    return re.sub(r" \[[^]]*\]$", "", re.split(r"; | \(", words)[0]).rstrip(".")


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


# ---- bash -----------------------------------------------------------------------------------------
BASH = MADE.format("bash") + """\
_stretto_words()
{{
    local one
    for one in "$@"; do [[ $one != "$word"* ]] || COMPREPLY+=("$one"); done
}}

_stretto_files()
{{
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "-$1" -- "$word")
}}

# Names of models; files too, where they are taken and no name fits.
_stretto_models()
{{
    local name
    while IFS= read -r name; do
        [[ $name != "$word"* ]] || COMPREPLY+=("$(printf %q "$name")")
    done < <("${{COMP_WORDS[0]}}" models list -q $1 2>/dev/null)
    [[ ${{#COMPREPLY[@]}} -gt 0 || $2 == only ]] || _stretto_files f
}}

_stretto_hub()
{{
    local name
    while IFS= read -r name; do
        [[ $name != hf:* || ${{name#hf:}} != "$word"* ]] || COMPREPLY+=("$(printf %q "${{name#hf:}}")")
    done < <("${{COMP_WORDS[0]}}" models list -q 2>/dev/null)
}}

_stretto()
{{
    # Bash takes a word apart at ':' and '='; a name such as hf:USER/REPO is one.
    local words=() one glue='' word before command options kind='' i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        one=${{COMP_WORDS[i]}}
        if [[ ${{#words[@]}} -gt 0 && ( -n $glue || $one == : || $one == = ) ]]; then words[-1]+=$one
        else words+=("$one"); fi
        [[ $one == : || $one == = ]] && glue=yes || glue=''
    done
    word=${{words[-1]}} before=${{words[-2]}} command=${{words[1]}}
    COMPREPLY=()
    if [[ ${{#words[@]}} -eq 2 ]]; then
        _stretto_words {commands} {aliases} help --version
        return
    fi
    if [[ $word == --*=* ]]; then before=${{word%%=*}} word=${{word#*=}}; fi
    case $command in
    help) _stretto_words {commands}; return ;;
    list | ls) command=models words=(x models list x) ;;
    rm) command=models words=(x models rm x) ;;
    esac
    case $command in
{options}
    *) return ;;
    esac
    case $command:$before in
{kinds}
    esac
    case $kind in
    '') if [[ $word == -* ]]; then _stretto_words $options --help; else _stretto_operands; fi ;;
    models) _stretto_models '' ;;
    hub) _stretto_hub ;;
    files) _stretto_files f ;;
    folders) _stretto_files d ;;
    text) ;;
    *) _stretto_words $kind ;;
    esac
    # Only what follows the last ':' is put in place of the word.
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        one=${{word%"${{word##*:}}"}}
        COMPREPLY=("${{COMPREPLY[@]#"$one"}}")
    fi
}}

_stretto_operands()
{{
    case $command in
{operands}
    models) if [[ ${{words[2]}} == rm && ${{#words[@]}} -gt 3 ]]; then _stretto_models --here only
        elif [[ ${{#words[@]}} -eq 3 ]]; then _stretto_words list rm; fi ;;
    esac
}}
complete -F _stretto stretto
"""


def bash(rows):
    options, kinds, operands = [], [], []
    for command in rows:
        name = command["name"]
        options.append(f"    {name}) options='{' '.join(o['flags'] for o in options_of(command))}' ;;")
        for o in options_of(command):
            kind = kind_of(o)
            if kind:
                where = " | ".join(f"{name}:{flag}" for flag in o["flags"].split())
                kinds.append(f"    {where}) kind='{' '.join(kind[1]) if kind[0] == 'words' else kind[0]}' ;;")
        what, words = operand_kind(command)
        act = {"words": f"[[ ${{#words[@]}} -ne 3 ]] || _stretto_words {' '.join(words)}",
               "models": "_stretto_models ''", "files": "_stretto_files f"}.get(what)
        if act:
            operands.append(f"    {name}) {act} ;;")
    return BASH.format(commands=" ".join(c["name"] for c in rows), aliases=" ".join(ALIASES),
                       options="\n".join(options), kinds="\n".join(kinds), operands="\n".join(operands))


# ---- zsh ------------------------------------------------------------------------------------------
ZSH = "#compdef stretto\n" + MADE.format("zsh") + """\
# _arguments hands each of these the options of compadd.
_stretto_here()
{{
    local -a names
    names=(${{(f)"$($program models list -q --here 2>/dev/null)"}})
    compadd "$@" -a names
}}

_stretto_models()
{{
    local -a names
    names=(${{(f)"$($program models list -q 2>/dev/null)"}})
    compadd "$@" -a names
    _files "$@"
}}

_stretto_hub()
{{
    local -a names
    names=(${{${{(M)${{(f)"$($program models list -q 2>/dev/null)"}}:#hf:*}}#hf:}})
    compadd "$@" -a names
}}

_stretto()
{{
    local program=$words[1] command=$words[2]
    local -a commands
    commands=(
{commands}
    )
    if (( CURRENT == 2 )); then
        _describe -t commands command commands
        return
    fi
    shift words
    (( CURRENT-- ))
    case $command in
    help) _describe -t commands command commands ;;
{cases}
    list|ls) _arguments '--here[list only what is on this machine]' '*:: :' ;;
    rm) _arguments '(-y --yes)'{{-y,--yes}}'[do not ask]' '*:model:_stretto_here' ;;
    esac
}}
_stretto "$@"
"""


def zsh_text(text):
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


def zsh_action(what, words):
    return {"words": "(" + " ".join(words) + ")", "models": "_stretto_models", "hub": "_stretto_hub",
            "files": "_files", "folders": "_files -/"}.get(what, " ")


def zsh_option(option):
    flags, kind = option["flags"].split(), kind_of(option)
    many = "*" if option["kind"] == "texts" else ""
    others = f"({' '.join(flags)})" if len(flags) > 1 and not many else ""
    for flag in flags:
        spec = f"{others}{many}{flag}{'=' if kind and flag.startswith('--') else ''}[{zsh_text(short(option['help']))}]"
        if kind:
            spec += f":{zsh_text(option['value'])}:{zsh_action(*kind)}"
        yield quote(spec)


def zsh(rows):
    cases = []
    for command in rows:
        specs = [s for o in options_of(command) for s in zsh_option(o)] + ["'(-h --help)--help[show the help]'"]
        what, words = operand_kind(command)
        if what == "actions":
            specs += ["'1:action:(list rm)'", "'*:model:_stretto_here'"]
        elif what == "words":
            specs.append(quote("1:what:" + zsh_action(what, words)))
        elif what != "none":
            specs.append(quote("*:" + zsh_text(command["operands"]) + ":" + zsh_action(what, words)))
        cases.append(f"    {command['name']}) _arguments \\\n        " + " \\\n        ".join(specs) + " ;;")
    names = [(c["name"], c["summary"]) for c in rows] + list(ALIASES.items()) + [("help", "show the help")]
    described = "\n".join("        " + quote(f"{n}:{zsh_text(words)}") for n, words in names)
    return ZSH.format(commands=described, cases="\n".join(cases))


# ---- fish -----------------------------------------------------------------------------------------
FISH = MADE.format("fish") + """\
function __stretto_names
    stretto models list -q $argv 2>/dev/null
end
function __stretto_hub
    stretto models list -q 2>/dev/null | string replace -rf '^hf:' ''
end
complete -c stretto -f
complete -c stretto -n __fish_use_subcommand -l version -d 'show the version'
"""


def fish_quote(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_flags(flags):
    out = ""
    for flag in flags:
        if flag.startswith("--"):
            out += f" -l {flag[2:]}"
        else:
            out += f" -{'s' if len(flag) == 2 else 'o'} {flag[1:]}"
    return out


def fish_values(what, words):
    return {"words": " -x -a " + fish_quote(" ".join(words)), "models": " -r -F -a '(__stretto_names)'",
            "hub": " -x -a '(__stretto_hub)'", "files": " -r -F", "folders": " -x -a '(__fish_complete_directories)'",
            "text": " -x"}[what]


def fish(rows):
    lines = []
    for name, words in [(c["name"], c["summary"]) for c in rows] + [*ALIASES.items(), ("help", "show the help")]:
        lines.append(f"complete -c stretto -n __fish_use_subcommand -a {name} -d {fish_quote(words)}")
    for command in rows:
        seen = f"complete -c stretto -n '__fish_seen_subcommand_from {command['name']}'"
        for o in options_of(command):
            kind = kind_of(o)
            lines.append(seen + fish_flags(o["flags"].split()) + (fish_values(*kind) if kind else "")
                         + " -d " + fish_quote(short(o["help"])))
        what, words = operand_kind(command)
        if what == "words":
            lines.append(seen + " -a " + fish_quote(" ".join(words)))
        elif what == "models":
            lines.append(seen + " -F -a '(__stretto_names)'")
        elif what == "files":
            lines.append(seen + " -F")
    lines.append("complete -c stretto -n '__fish_seen_subcommand_from models; and not __fish_seen_subcommand_from "
                 "list rm' -a 'list rm'")
    lines.append("complete -c stretto -n '__fish_seen_subcommand_from rm' -a '(__stretto_names --here)'")
    lines.append(f"complete -c stretto -n '__fish_seen_subcommand_from help' -a '{' '.join(c['name'] for c in rows)}'")
    return FISH + "\n".join(lines) + "\n"
