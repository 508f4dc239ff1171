# Completion of stretto for bash. Made by tools/make_man.py from the rows of the command.
_stretto_words()
{
    local one
    for one in "$@"; do [[ $one != "$word"* ]] || COMPREPLY+=("$one"); done
}

_stretto_files()
{
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "-$1" -- "$word")
}

# Names of models; files too, where they are taken and no name fits.
_stretto_models()
{
    local name
    while IFS= read -r name; do
        [[ $name != "$word"* ]] || COMPREPLY+=("$(printf %q "$name")")
    done < <("${COMP_WORDS[0]}" models list -q $1 2>/dev/null)
    [[ ${#COMPREPLY[@]} -gt 0 || $2 == only ]] || _stretto_files f
}

_stretto_hub()
{
    local name
    while IFS= read -r name; do
        [[ $name != hf:* || ${name#hf:} != "$word"* ]] || COMPREPLY+=("$(printf %q "${name#hf:}")")
    done < <("${COMP_WORDS[0]}" models list -q 2>/dev/null)
}

_stretto()
{
    # Bash takes a word apart at ':' and '='; a name such as hf:USER/REPO is one.
    local words=() one glue='' word before command options kind='' i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        one=${COMP_WORDS[i]}
        if [[ ${#words[@]} -gt 0 && ( -n $glue || $one == : || $one == = ) ]]; then words[-1]+=$one
        else words+=("$one"); fi
        [[ $one == : || $one == = ]] && glue=yes || glue=''
    done
    word=${words[-1]} before=${words[-2]} command=${words[1]}
    COMPREPLY=()
    if [[ ${#words[@]} -eq 2 ]]; then
        _stretto_words run chat bench eval embed trace info tokenize template convert pull models list rm help --version
        return
    fi
    if [[ $word == --*=* ]]; then before=${word%%=*} word=${word#*=}; fi
    case $command in
    help) _stretto_words run chat bench eval embed trace info tokenize template convert pull models; return ;;
    list | ls) command=models words=(x models list x) ;;
    rm) command=models words=(x models rm x) ;;
    esac
    case $command in
    run) options='-p --prompt -f --file -e --escape -n --predict --n-predict --chat -sys --system-prompt --system -sysf --system-prompt-file --system-file --special-in-text -r --reverse-prompt --stop --ignore-eos --trace --force --json -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose --temp --temperature --top-k --top-p --min-p --seed -s --repeat-penalty --repeat-last-n --presence-penalty --frequency-penalty -l --logit-bias --decode --draft-max -md --model-draft --heads --learned --window --ngram --guesses' ;;
    chat) options='-p --prompt -st --single-turn -sys --system-prompt --system -sysf --system-prompt-file --system-file -e --escape -r --reverse-prompt --stop -n --predict --n-predict --special-in-text --resume --on-full -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose --temp --temperature --top-k --top-p --min-p --seed -s --repeat-penalty --repeat-last-n --presence-penalty --frequency-penalty -l --logit-bias --decode --draft-max -md --model-draft --heads --learned --window --ngram --guesses' ;;
    bench) options='-p --n-prompt -n --n-gen -d --n-depth -np --parallel -t --threads -r --repetitions --roof --compare -o --output --decode --prompts --limit --pairs --costs --draft-max -md --model-draft --heads --learned --window --ngram --guesses -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose' ;;
    eval) options='-f --file --chunks --base --base-reference --ids --raw --force --json -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose' ;;
    embed) options='-f --file --pooling --no-normalize --truncate --json -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose' ;;
    trace) options='--prompts -o --output -n --predict --n-predict --block --states -s --seed --limit -np --parallel --learned -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose' ;;
    info) options='--graph --rows --machine --json -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose' ;;
    tokenize) options='-m --model -y --yes --no-special --add-special --decode --json' ;;
    template) options='-m --model -y --yes --template --vars --now' ;;
    convert) options='--type --outtype --force -y --yes -q --quiet' ;;
    pull) options='--into --as --sha256 --offline --force --json -q --quiet --retries --retry-wait --stall' ;;
    models) options='--here -q --quiet --json -y --yes' ;;
    *) return ;;
    esac
    case $command:$before in
    run:-p | run:--prompt) kind='text' ;;
    run:-f | run:--file) kind='files' ;;
    run:-n | run:--predict | run:--n-predict) kind='text' ;;
    run:-sys | run:--system-prompt | run:--system) kind='text' ;;
    run:-sysf | run:--system-prompt-file | run:--system-file) kind='files' ;;
    run:-r | run:--reverse-prompt | run:--stop) kind='text' ;;
    run:--trace) kind='files' ;;
    run:-m | run:--model) kind='models' ;;
    run:-hf | run:--hf-repo) kind='hub' ;;
    run:-t | run:--threads) kind='text' ;;
    run:-c | run:--ctx-size) kind='text' ;;
    run:-ctk | run:--cache-type-k) kind='f16 bf16 f32 q8_0' ;;
    run:-ctv | run:--cache-type-v) kind='f16 bf16 f32 q8_0 q4_0' ;;
    run:-C | run:--cpu-mask) kind='text' ;;
    run:-Cr | run:--cpu-range) kind='text' ;;
    run:--temp | run:--temperature) kind='text' ;;
    run:--top-k) kind='text' ;;
    run:--top-p) kind='text' ;;
    run:--min-p) kind='text' ;;
    run:--seed | run:-s) kind='text' ;;
    run:--repeat-penalty) kind='text' ;;
    run:--repeat-last-n) kind='text' ;;
    run:--presence-penalty) kind='text' ;;
    run:--frequency-penalty) kind='text' ;;
    run:-l | run:--logit-bias) kind='text' ;;
    run:--decode) kind='auto plain jacobi lookup suffix recycle lookahead draft heads' ;;
    run:--draft-max) kind='text' ;;
    run:-md | run:--model-draft) kind='models' ;;
    run:--heads) kind='files' ;;
    run:--learned) kind='files' ;;
    run:--window) kind='text' ;;
    run:--ngram) kind='text' ;;
    run:--guesses) kind='text' ;;
    chat:-p | chat:--prompt) kind='text' ;;
    chat:-sys | chat:--system-prompt | chat:--system) kind='text' ;;
    chat:-sysf | chat:--system-prompt-file | chat:--system-file) kind='files' ;;
    chat:-r | chat:--reverse-prompt | chat:--stop) kind='text' ;;
    chat:-n | chat:--predict | chat:--n-predict) kind='text' ;;
    chat:--resume) kind='files' ;;
    chat:--on-full) kind='compact stop' ;;
    chat:-m | chat:--model) kind='models' ;;
    chat:-hf | chat:--hf-repo) kind='hub' ;;
    chat:-t | chat:--threads) kind='text' ;;
    chat:-c | chat:--ctx-size) kind='text' ;;
    chat:-ctk | chat:--cache-type-k) kind='f16 bf16 f32 q8_0' ;;
    chat:-ctv | chat:--cache-type-v) kind='f16 bf16 f32 q8_0 q4_0' ;;
    chat:-C | chat:--cpu-mask) kind='text' ;;
    chat:-Cr | chat:--cpu-range) kind='text' ;;
    chat:--temp | chat:--temperature) kind='text' ;;
    chat:--top-k) kind='text' ;;
    chat:--top-p) kind='text' ;;
    chat:--min-p) kind='text' ;;
    chat:--seed | chat:-s) kind='text' ;;
    chat:--repeat-penalty) kind='text' ;;
    chat:--repeat-last-n) kind='text' ;;
    chat:--presence-penalty) kind='text' ;;
    chat:--frequency-penalty) kind='text' ;;
    chat:-l | chat:--logit-bias) kind='text' ;;
    chat:--decode) kind='auto plain jacobi lookup suffix recycle lookahead draft heads' ;;
    chat:--draft-max) kind='text' ;;
    chat:-md | chat:--model-draft) kind='models' ;;
    chat:--heads) kind='files' ;;
    chat:--learned) kind='files' ;;
    chat:--window) kind='text' ;;
    chat:--ngram) kind='text' ;;
    chat:--guesses) kind='text' ;;
    bench:-p | bench:--n-prompt) kind='text' ;;
    bench:-n | bench:--n-gen) kind='text' ;;
    bench:-d | bench:--n-depth) kind='text' ;;
    bench:-np | bench:--parallel) kind='text' ;;
    bench:-t | bench:--threads) kind='text' ;;
    bench:-r | bench:--repetitions) kind='text' ;;
    bench:-o | bench:--output) kind='md csv json' ;;
    bench:--decode) kind='text' ;;
    bench:--prompts) kind='files' ;;
    bench:--limit) kind='text' ;;
    bench:--pairs) kind='text' ;;
    bench:--costs) kind='text' ;;
    bench:--draft-max) kind='text' ;;
    bench:-md | bench:--model-draft) kind='models' ;;
    bench:--heads) kind='files' ;;
    bench:--learned) kind='files' ;;
    bench:--window) kind='text' ;;
    bench:--ngram) kind='text' ;;
    bench:--guesses) kind='text' ;;
    bench:-m | bench:--model) kind='models' ;;
    bench:-hf | bench:--hf-repo) kind='hub' ;;
    bench:-t | bench:--threads) kind='text' ;;
    bench:-c | bench:--ctx-size) kind='text' ;;
    bench:-ctk | bench:--cache-type-k) kind='f16 bf16 f32 q8_0' ;;
    bench:-ctv | bench:--cache-type-v) kind='f16 bf16 f32 q8_0 q4_0' ;;
    bench:-C | bench:--cpu-mask) kind='text' ;;
    bench:-Cr | bench:--cpu-range) kind='text' ;;
    eval:-f | eval:--file) kind='files' ;;
    eval:--chunks) kind='text' ;;
    eval:--base) kind='models' ;;
    eval:--ids) kind='text' ;;
    eval:--raw) kind='files' ;;
    eval:-m | eval:--model) kind='models' ;;
    eval:-hf | eval:--hf-repo) kind='hub' ;;
    eval:-t | eval:--threads) kind='text' ;;
    eval:-c | eval:--ctx-size) kind='text' ;;
    eval:-ctk | eval:--cache-type-k) kind='f16 bf16 f32 q8_0' ;;
    eval:-ctv | eval:--cache-type-v) kind='f16 bf16 f32 q8_0 q4_0' ;;
    eval:-C | eval:--cpu-mask) kind='text' ;;
    eval:-Cr | eval:--cpu-range) kind='text' ;;
    embed:-f | embed:--file) kind='files' ;;
    embed:--pooling) kind='mean cls last none' ;;
    embed:-m | embed:--model) kind='models' ;;
    embed:-hf | embed:--hf-repo) kind='hub' ;;
    embed:-t | embed:--threads) kind='text' ;;
    embed:-c | embed:--ctx-size) kind='text' ;;
    embed:-ctk | embed:--cache-type-k) kind='f16 bf16 f32 q8_0' ;;
    embed:-ctv | embed:--cache-type-v) kind='f16 bf16 f32 q8_0 q4_0' ;;
    embed:-C | embed:--cpu-mask) kind='text' ;;
    embed:-Cr | embed:--cpu-range) kind='text' ;;
    trace:--prompts) kind='files' ;;
    trace:-o | trace:--output) kind='files' ;;
    trace:-n | trace:--predict | trace:--n-predict) kind='text' ;;
    trace:--block) kind='text' ;;
    trace:--states) kind='text' ;;
    trace:-s | trace:--seed) kind='text' ;;
    trace:--limit) kind='text' ;;
    trace:-np | trace:--parallel) kind='text' ;;
    trace:--learned) kind='files' ;;
    trace:-m | trace:--model) kind='models' ;;
    trace:-hf | trace:--hf-repo) kind='hub' ;;
    trace:-t | trace:--threads) kind='text' ;;
    trace:-c | trace:--ctx-size) kind='text' ;;
    trace:-ctk | trace:--cache-type-k) kind='f16 bf16 f32 q8_0' ;;
    trace:-ctv | trace:--cache-type-v) kind='f16 bf16 f32 q8_0 q4_0' ;;
    trace:-C | trace:--cpu-mask) kind='text' ;;
    trace:-Cr | trace:--cpu-range) kind='text' ;;
    info:--rows) kind='text' ;;
    info:-m | info:--model) kind='models' ;;
    info:-hf | info:--hf-repo) kind='hub' ;;
    info:-t | info:--threads) kind='text' ;;
    info:-c | info:--ctx-size) kind='text' ;;
    info:-ctk | info:--cache-type-k) kind='f16 bf16 f32 q8_0' ;;
    info:-ctv | info:--cache-type-v) kind='f16 bf16 f32 q8_0 q4_0' ;;
    info:-C | info:--cpu-mask) kind='text' ;;
    info:-Cr | info:--cpu-range) kind='text' ;;
    tokenize:-m | tokenize:--model) kind='models' ;;
    template:-m | template:--model) kind='models' ;;
    template:--template) kind='files' ;;
    template:--vars) kind='files' ;;
    template:--now) kind='text' ;;
    convert:--type | convert:--outtype) kind='f32 bf16 f16 q8_0' ;;
    pull:--into) kind='folders' ;;
    pull:--as) kind='text' ;;
    pull:--sha256) kind='text' ;;
    pull:--retries) kind='text' ;;
    pull:--retry-wait) kind='text' ;;
    pull:--stall) kind='text' ;;
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
        one=${word%"${word##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$one"}")
    fi
}

_stretto_operands()
{
    case $command in
    run) _stretto_models '' ;;
    chat) _stretto_models '' ;;
    bench) _stretto_files f ;;
    eval) [[ ${#words[@]} -ne 3 ]] || _stretto_words ppl kl logits ;;
    trace) [[ ${#words[@]} -ne 3 ]] || _stretto_words jacobi ;;
    convert) _stretto_models '' ;;
    pull) _stretto_models '' ;;
    models) if [[ ${words[2]} == rm && ${#words[@]} -gt 3 ]]; then _stretto_models --here only
        elif [[ ${#words[@]} -eq 3 ]]; then _stretto_words list rm; fi ;;
    esac
}
complete -F _stretto stretto
