# Completion of stretto for bash. Made by tools/make_man.py from the rows of the command.
_stretto()
{
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} options choices
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W 'run chat bench eval embed trace info tokenize template convert pull models help --version' -- "$word")
        return
    fi
    case ${COMP_WORDS[1]} in
    help) mapfile -t COMPREPLY < <(compgen -W 'run chat bench eval embed trace info tokenize template convert pull models' -- "$word"); return ;;
    run) options='-p --prompt -f --file -e --escape -n --predict --n-predict --chat -sys --system-prompt --system -sysf --system-prompt-file --system-file -r --reverse-prompt --stop --ignore-eos --trace --json -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose --temp --temperature --top-k --top-p --min-p --seed -s --repeat-penalty --repeat-last-n --presence-penalty --frequency-penalty --logit-bias --decode --draft-max -md --model-draft --heads --learned --window --ngram --guesses' ;;
    chat) options='-sys --system -n --predict --n-predict -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose --temp --temperature --top-k --top-p --min-p --seed -s --repeat-penalty --repeat-last-n --presence-penalty --frequency-penalty --logit-bias --decode --draft-max -md --model-draft --heads --learned --window --ngram --guesses' ;;
    bench) options='-p --n-prompt -n --n-gen -d --n-depth -np --parallel -t --threads -r --repetitions --roof --compare -o --output --decode --prompts --limit --pairs --costs --draft-max -md --model-draft --heads --learned --window --ngram --guesses -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose' ;;
    eval) options='-f --file --chunks --base --base-reference --ids --raw --json -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose' ;;
    embed) options='-f --file --json -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose' ;;
    trace) options='--prompts -o --output -n --predict --n-predict --block --states -s --seed --limit -np --parallel --learned -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose' ;;
    info) options='--graph --rows --machine --json -m --model -hf --hf-repo -y --yes -t --threads -c --ctx-size -ctk --cache-type-k -ctv --cache-type-v --reference --strict -C --cpu-mask -Cr --cpu-range --mlock -v --verbose' ;;
    tokenize) options='-m --model -y --yes --no-special --add-special --decode --json' ;;
    template) options='-m --model -y --yes --template --vars --now' ;;
    convert) options='--type --outtype --force -y --yes -q --quiet' ;;
    pull) options='--into --as --sha256 --offline --force --json -q --quiet --retries --retry-wait --stall' ;;
    models) options='--here -q --quiet --json -y --yes' ;;
    *) return ;;
    esac
    case ${COMP_WORDS[1]}:$before in
    run:-ctk | run:--cache-type-k) choices='f16 bf16 f32 q8_0' ;;
    run:-ctv | run:--cache-type-v) choices='f16 bf16 f32 q8_0 q4_0' ;;
    chat:-ctk | chat:--cache-type-k) choices='f16 bf16 f32 q8_0' ;;
    chat:-ctv | chat:--cache-type-v) choices='f16 bf16 f32 q8_0 q4_0' ;;
    bench:-o | bench:--output) choices='md csv json' ;;
    bench:-ctk | bench:--cache-type-k) choices='f16 bf16 f32 q8_0' ;;
    bench:-ctv | bench:--cache-type-v) choices='f16 bf16 f32 q8_0 q4_0' ;;
    eval:-ctk | eval:--cache-type-k) choices='f16 bf16 f32 q8_0' ;;
    eval:-ctv | eval:--cache-type-v) choices='f16 bf16 f32 q8_0 q4_0' ;;
    embed:-ctk | embed:--cache-type-k) choices='f16 bf16 f32 q8_0' ;;
    embed:-ctv | embed:--cache-type-v) choices='f16 bf16 f32 q8_0 q4_0' ;;
    trace:-ctk | trace:--cache-type-k) choices='f16 bf16 f32 q8_0' ;;
    trace:-ctv | trace:--cache-type-v) choices='f16 bf16 f32 q8_0 q4_0' ;;
    info:-ctk | info:--cache-type-k) choices='f16 bf16 f32 q8_0' ;;
    info:-ctv | info:--cache-type-v) choices='f16 bf16 f32 q8_0 q4_0' ;;
    convert:--type | convert:--outtype) choices='f32 bf16 f16 q8_0' ;;
    esac
    if [ -n "$choices" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")
    elif [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options --help" -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}
complete -o filenames -F _stretto stretto
