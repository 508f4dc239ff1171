#compdef stretto
# Completion of stretto for zsh. Made by tools/make_man.py from the rows of the command.
# _arguments hands each of these the options of compadd.
_stretto_here()
{
    local -a names
    names=(${(f)"$($program models list -q --here 2>/dev/null)"})
    compadd "$@" -a names
}

_stretto_models()
{
    local -a names
    names=(${(f)"$($program models list -q 2>/dev/null)"})
    compadd "$@" -a names
    _files "$@"
}

_stretto_hub()
{
    local -a names
    names=(${${(M)${(f)"$($program models list -q 2>/dev/null)"}:#hf:*}#hf:})
    compadd "$@" -a names
}

_stretto()
{
    local program=$words[1] command=$words[2]
    local -a commands
    commands=(
        'run:write text after a prompt'
        'chat:talk with a model'
        'bench:measure speed and memory'
        'eval:measure quality\: perplexity, divergence'
        'embed:one vector per line of text'
        'trace:write Jacobi trajectories for consistency training'
        'info:what a model is, what this machine offers, what was chosen'
        'tokenize:text to token ids and back'
        'template:render a chat template'
        'convert:write a model as a GGUF file'
        'pull:fetch models, resuming and checking what arrives'
        'models:list the models there are, and remove them'
        'list:list models'
        'rm:remove models'
        'help:show the help'
    )
    if (( CURRENT == 2 )); then
        _describe -t commands command commands
        return
    fi
    shift words
    (( CURRENT-- ))
    case $command in
    help) _describe -t commands command commands ;;
    run) _arguments \
        '(-p --prompt)-p[the prompt, used as given]:TEXT: ' \
        '(-p --prompt)--prompt=[the prompt, used as given]:TEXT: ' \
        '(-f --file)-f[read the prompt from a file, unchanged]:FILE:_files' \
        '(-f --file)--file=[read the prompt from a file, unchanged]:FILE:_files' \
        '(-e --escape)-e[read \\n, \\r, \\t, \\'\'', \\", \\\\ and \\xHH in the prompt, -sys and -r as the bytes they stand for]' \
        '(-e --escape)--escape[read \\n, \\r, \\t, \\'\'', \\", \\\\ and \\xHH in the prompt, -sys and -r as the bytes they stand for]' \
        '(-n --predict --n-predict)-n[tokens to write at most]:N: ' \
        '(-n --predict --n-predict)--predict=[tokens to write at most]:N: ' \
        '(-n --predict --n-predict)--n-predict=[tokens to write at most]:N: ' \
        '--chat[put the prompt into the model'\''s chat template]' \
        '(-sys --system-prompt --system)-sys[a system message]:TEXT: ' \
        '(-sys --system-prompt --system)--system-prompt=[a system message]:TEXT: ' \
        '(-sys --system-prompt --system)--system=[a system message]:TEXT: ' \
        '(-sysf --system-prompt-file --system-file)-sysf[read the system message from a file]:FILE:_files' \
        '(-sysf --system-prompt-file --system-file)--system-prompt-file=[read the system message from a file]:FILE:_files' \
        '(-sysf --system-prompt-file --system-file)--system-file=[read the system message from a file]:FILE:_files' \
        '--special-in-text[with --chat\: special tokens spelled in the prompt steer the model, as <|im_end|> ends a turn]' \
        '*-r[stop before this text]:TEXT: ' \
        '*--reverse-prompt=[stop before this text]:TEXT: ' \
        '*--stop=[stop before this text]:TEXT: ' \
        '--ignore-eos[go on past the model'\''s end token]' \
        '--trace=[draw which steps wrote which tokens over time, and who guessed them first]:FILE.svg:_files' \
        '--force[replace the file of --trace when it is there]' \
        '--json[print one JSON value\: text, ids, counts, timings]' \
        '(-m --model)-m[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-m --model)--model=[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-hf --hf-repo)-hf[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-hf --hf-repo)--hf-repo=[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-y --yes)-y[fetch a model that is not here without asking]' \
        '(-y --yes)--yes[fetch a model that is not here without asking]' \
        '(-t --threads)-t[threads]:N: ' \
        '(-t --threads)--threads=[threads]:N: ' \
        '(-c --ctx-size)-c[tokens of context]:N: ' \
        '(-c --ctx-size)--ctx-size=[tokens of context]:N: ' \
        '(-ctk --cache-type-k)-ctk[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctk --cache-type-k)--cache-type-k=[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctv --cache-type-v)-ctv[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '(-ctv --cache-type-v)--cache-type-v=[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '--reference[the float32 path\: weights, activations and, unless -ctk or -ctv say otherwise, the cache]' \
        '--strict[one arithmetic for prompt and written rows, so cached and recomputed prefixes agree bit for bit]' \
        '(-C --cpu-mask)-C[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-C --cpu-mask)--cpu-mask=[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-Cr --cpu-range)-Cr[run on these CPUs only]:FIRST-LAST: ' \
        '(-Cr --cpu-range)--cpu-range=[run on these CPUs only]:FIRST-LAST: ' \
        '--mlock[keep the packed weights in memory, so that they are never swapped out]' \
        '(-v --verbose)-v[say what was chosen and why]' \
        '(-v --verbose)--verbose[say what was chosen and why]' \
        '(--temp --temperature)--temp=[temperature]:T: ' \
        '(--temp --temperature)--temperature=[temperature]:T: ' \
        '--top-k=[keep the N best tokens]:N: ' \
        '--top-p=[keep the best tokens that sum to P]:P: ' \
        '--min-p=[drop tokens below P times the best]:P: ' \
        '(--seed -s)--seed=[seed of the noise]:N: ' \
        '(--seed -s)-s[seed of the noise]:N: ' \
        '--repeat-penalty=[divide the logits of recent tokens by X]:X: ' \
        '--repeat-last-n=[how many recent tokens the penalties see]:N: ' \
        '--presence-penalty=[subtract X from tokens that occurred]:X: ' \
        '--frequency-penalty=[subtract X for each time a token occurred]:X: ' \
        '*-l[add X to the logit of a token id]:ID+X,ID-X: ' \
        '*--logit-bias=[add X to the logit of a token id]:ID+X,ID-X: ' \
        '--decode=[how several tokens are written per step\: auto, plain, jacobi, lookup, suffix, recycle, lookahead, draft, heads, or several joined by +]:WORDS:(auto plain jacobi lookup suffix recycle lookahead draft heads)' \
        '--draft-max=[guesses in a step at most]:N: ' \
        '(-md --model-draft)-md[a smaller model that guesses, for draft]:MODEL:_stretto_models' \
        '(-md --model-draft)--model-draft=[a smaller model that guesses, for draft]:MODEL:_stretto_models' \
        '--heads=[a safetensors file of heads that guess, for heads]:FILE:_files' \
        '--learned=[what guessing learned\: read at the start, written at the end]:FILE:_files' \
        '--window=[tokens of the Jacobi window, columns of lookahead'\''s]:N: ' \
        '--ngram=[lookahead\: tokens of an n-gram]:N: ' \
        '--guesses=[lookahead\: n-grams that are tried at once]:N: ' \
        '(-h --help)--help[show the help]' \
        '*:\[\[MODEL\] PROMPT\]:_stretto_models' ;;
    chat) _arguments \
        '(-p --prompt)-p[the first message, asked at once]:TEXT: ' \
        '(-p --prompt)--prompt=[the first message, asked at once]:TEXT: ' \
        '(-st --single-turn)-st[leave after the answer to it]' \
        '(-st --single-turn)--single-turn[leave after the answer to it]' \
        '(-sys --system-prompt --system)-sys[a system message]:TEXT: ' \
        '(-sys --system-prompt --system)--system-prompt=[a system message]:TEXT: ' \
        '(-sys --system-prompt --system)--system=[a system message]:TEXT: ' \
        '(-sysf --system-prompt-file --system-file)-sysf[read the system message from a file]:FILE:_files' \
        '(-sysf --system-prompt-file --system-file)--system-prompt-file=[read the system message from a file]:FILE:_files' \
        '(-sysf --system-prompt-file --system-file)--system-file=[read the system message from a file]:FILE:_files' \
        '(-e --escape)-e[read \\n, \\r, \\t, \\'\'', \\", \\\\ and \\xHH in the first message, -sys and -r as the bytes they stand for]' \
        '(-e --escape)--escape[read \\n, \\r, \\t, \\'\'', \\", \\\\ and \\xHH in the first message, -sys and -r as the bytes they stand for]' \
        '*-r[an answer stops before this text]:TEXT: ' \
        '*--reverse-prompt=[an answer stops before this text]:TEXT: ' \
        '*--stop=[an answer stops before this text]:TEXT: ' \
        '(-n --predict --n-predict)-n[tokens of an answer at most]:N: ' \
        '(-n --predict --n-predict)--predict=[tokens of an answer at most]:N: ' \
        '(-n --predict --n-predict)--n-predict=[tokens of an answer at most]:N: ' \
        '--special-in-text[special tokens spelled in messages steer the model, as <|im_end|> ends a turn]' \
        '--resume=[go on with a conversation that /save has written, its parameters included]:FILE:_files' \
        '--on-full=[what to do when the context is full\: forget the oldest messages and say so, or stop]:compact|stop:(compact stop)' \
        '(-m --model)-m[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-m --model)--model=[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-hf --hf-repo)-hf[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-hf --hf-repo)--hf-repo=[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-y --yes)-y[fetch a model that is not here without asking]' \
        '(-y --yes)--yes[fetch a model that is not here without asking]' \
        '(-t --threads)-t[threads]:N: ' \
        '(-t --threads)--threads=[threads]:N: ' \
        '(-c --ctx-size)-c[tokens of context]:N: ' \
        '(-c --ctx-size)--ctx-size=[tokens of context]:N: ' \
        '(-ctk --cache-type-k)-ctk[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctk --cache-type-k)--cache-type-k=[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctv --cache-type-v)-ctv[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '(-ctv --cache-type-v)--cache-type-v=[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '--reference[the float32 path\: weights, activations and, unless -ctk or -ctv say otherwise, the cache]' \
        '--strict[one arithmetic for prompt and written rows, so cached and recomputed prefixes agree bit for bit]' \
        '(-C --cpu-mask)-C[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-C --cpu-mask)--cpu-mask=[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-Cr --cpu-range)-Cr[run on these CPUs only]:FIRST-LAST: ' \
        '(-Cr --cpu-range)--cpu-range=[run on these CPUs only]:FIRST-LAST: ' \
        '--mlock[keep the packed weights in memory, so that they are never swapped out]' \
        '(-v --verbose)-v[say what was chosen and why]' \
        '(-v --verbose)--verbose[say what was chosen and why]' \
        '(--temp --temperature)--temp=[temperature]:T: ' \
        '(--temp --temperature)--temperature=[temperature]:T: ' \
        '--top-k=[keep the N best tokens]:N: ' \
        '--top-p=[keep the best tokens that sum to P]:P: ' \
        '--min-p=[drop tokens below P times the best]:P: ' \
        '(--seed -s)--seed=[seed of the noise]:N: ' \
        '(--seed -s)-s[seed of the noise]:N: ' \
        '--repeat-penalty=[divide the logits of recent tokens by X]:X: ' \
        '--repeat-last-n=[how many recent tokens the penalties see]:N: ' \
        '--presence-penalty=[subtract X from tokens that occurred]:X: ' \
        '--frequency-penalty=[subtract X for each time a token occurred]:X: ' \
        '*-l[add X to the logit of a token id]:ID+X,ID-X: ' \
        '*--logit-bias=[add X to the logit of a token id]:ID+X,ID-X: ' \
        '--decode=[how several tokens are written per step\: auto, plain, jacobi, lookup, suffix, recycle, lookahead, draft, heads, or several joined by +]:WORDS:(auto plain jacobi lookup suffix recycle lookahead draft heads)' \
        '--draft-max=[guesses in a step at most]:N: ' \
        '(-md --model-draft)-md[a smaller model that guesses, for draft]:MODEL:_stretto_models' \
        '(-md --model-draft)--model-draft=[a smaller model that guesses, for draft]:MODEL:_stretto_models' \
        '--heads=[a safetensors file of heads that guess, for heads]:FILE:_files' \
        '--learned=[what guessing learned\: read at the start, written at the end]:FILE:_files' \
        '--window=[tokens of the Jacobi window, columns of lookahead'\''s]:N: ' \
        '--ngram=[lookahead\: tokens of an n-gram]:N: ' \
        '--guesses=[lookahead\: n-grams that are tried at once]:N: ' \
        '(-h --help)--help[show the help]' \
        '*:\[\[MODEL\] MESSAGE\]:_stretto_models' ;;
    bench) _arguments \
        '(-p --n-prompt)-p[prompt sizes]:N,N: ' \
        '(-p --n-prompt)--n-prompt=[prompt sizes]:N,N: ' \
        '(-n --n-gen)-n[numbers of tokens to write]:N,N: ' \
        '(-n --n-gen)--n-gen=[numbers of tokens to write]:N,N: ' \
        '(-d --n-depth)-d[tokens in the cache before the test]:N,N: ' \
        '(-d --n-depth)--n-depth=[tokens in the cache before the test]:N,N: ' \
        '(-np --parallel)-np[sequences written at once]:N,N: ' \
        '(-np --parallel)--parallel=[sequences written at once]:N,N: ' \
        '(-t --threads)-t[threads]:N,N: ' \
        '(-t --threads)--threads=[threads]:N,N: ' \
        '(-r --repetitions)-r[repetitions of each test]:N: ' \
        '(-r --repetitions)--repetitions=[repetitions of each test]:N: ' \
        '--roof[where the time goes\: each operation beside what the machine could do at all]' \
        '--compare[measure nothing\: what got slower or faster from one file of -o json rows to another]' \
        '(-o --output)-o[how the rows are printed]:md|csv|json:(md csv json)' \
        '(-o --output)--output=[how the rows are printed]:md|csv|json:(md csv json)' \
        '--decode=[measure ways of decoding on the prompts of --prompts]:WORDS,WORDS: ' \
        '--prompts=[JSON lines with prompts]:FILE:_files' \
        '--limit=[prompts at most]:N: ' \
        '--pairs=[times each answer is written plainly and in each way]:N: ' \
        '--costs=[decide and price as on a machine where steps of 1, 2, 4, 8, 16, 32 rows cost so many steps of one]:X,X,X,X,X,X: ' \
        '--draft-max=[guesses in a step at most]:N: ' \
        '(-md --model-draft)-md[a smaller model that guesses, for draft]:MODEL:_stretto_models' \
        '(-md --model-draft)--model-draft=[a smaller model that guesses, for draft]:MODEL:_stretto_models' \
        '--heads=[a safetensors file of heads that guess, for heads]:FILE:_files' \
        '--learned=[what guessing learned\: read at the start, written at the end]:FILE:_files' \
        '--window=[tokens of the Jacobi window, columns of lookahead'\''s]:N: ' \
        '--ngram=[lookahead\: tokens of an n-gram]:N: ' \
        '--guesses=[lookahead\: n-grams that are tried at once]:N: ' \
        '(-m --model)-m[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-m --model)--model=[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-hf --hf-repo)-hf[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-hf --hf-repo)--hf-repo=[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-y --yes)-y[fetch a model that is not here without asking]' \
        '(-y --yes)--yes[fetch a model that is not here without asking]' \
        '(-t --threads)-t[threads]:N: ' \
        '(-t --threads)--threads=[threads]:N: ' \
        '(-c --ctx-size)-c[tokens of context]:N: ' \
        '(-c --ctx-size)--ctx-size=[tokens of context]:N: ' \
        '(-ctk --cache-type-k)-ctk[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctk --cache-type-k)--cache-type-k=[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctv --cache-type-v)-ctv[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '(-ctv --cache-type-v)--cache-type-v=[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '--reference[the float32 path\: weights, activations and, unless -ctk or -ctv say otherwise, the cache]' \
        '--strict[one arithmetic for prompt and written rows, so cached and recomputed prefixes agree bit for bit]' \
        '(-C --cpu-mask)-C[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-C --cpu-mask)--cpu-mask=[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-Cr --cpu-range)-Cr[run on these CPUs only]:FIRST-LAST: ' \
        '(-Cr --cpu-range)--cpu-range=[run on these CPUs only]:FIRST-LAST: ' \
        '--mlock[keep the packed weights in memory, so that they are never swapped out]' \
        '(-v --verbose)-v[say what was chosen and why]' \
        '(-v --verbose)--verbose[say what was chosen and why]' \
        '(-h --help)--help[show the help]' \
        '*:\[BEFORE.json AFTER.json\]:_files' ;;
    eval) _arguments \
        '(-f --file)-f[the text that is read]:TEXT:_files' \
        '(-f --file)--file=[the text that is read]:TEXT:_files' \
        '--chunks=[windows at most]:N: ' \
        '--base=[kl\: the model that is compared with]:MODEL:_stretto_models' \
        '--base-reference[kl\: compare with the same model'\''s float32 path]' \
        '--ids=[logits\: the token ids that are read]:1,2,3: ' \
        '--raw=[logits\: file for float32 rows, one per id]:OUT:_files' \
        '--force[logits\: replace the file of --raw when it is there]' \
        '--json[print one JSON value]' \
        '(-m --model)-m[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-m --model)--model=[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-hf --hf-repo)-hf[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-hf --hf-repo)--hf-repo=[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-y --yes)-y[fetch a model that is not here without asking]' \
        '(-y --yes)--yes[fetch a model that is not here without asking]' \
        '(-t --threads)-t[threads]:N: ' \
        '(-t --threads)--threads=[threads]:N: ' \
        '(-c --ctx-size)-c[tokens of context]:N: ' \
        '(-c --ctx-size)--ctx-size=[tokens of context]:N: ' \
        '(-ctk --cache-type-k)-ctk[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctk --cache-type-k)--cache-type-k=[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctv --cache-type-v)-ctv[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '(-ctv --cache-type-v)--cache-type-v=[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '--reference[the float32 path\: weights, activations and, unless -ctk or -ctv say otherwise, the cache]' \
        '--strict[one arithmetic for prompt and written rows, so cached and recomputed prefixes agree bit for bit]' \
        '(-C --cpu-mask)-C[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-C --cpu-mask)--cpu-mask=[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-Cr --cpu-range)-Cr[run on these CPUs only]:FIRST-LAST: ' \
        '(-Cr --cpu-range)--cpu-range=[run on these CPUs only]:FIRST-LAST: ' \
        '--mlock[keep the packed weights in memory, so that they are never swapped out]' \
        '(-v --verbose)-v[say what was chosen and why]' \
        '(-v --verbose)--verbose[say what was chosen and why]' \
        '(-h --help)--help[show the help]' \
        '1:what:(ppl kl logits)' ;;
    embed) _arguments \
        '(-f --file)-f[read the lines from a file]:FILE:_files' \
        '(-f --file)--file=[read the lines from a file]:FILE:_files' \
        '--pooling=[which vectors of the tokens count\: their average, the first, the last, or each on its own]:mean|cls|last|none:(mean cls last none)' \
        '--no-normalize[leave the length as it comes, in place of 1]' \
        '--truncate[cut lines that are longer than the context]' \
        '--json[print one JSON value]' \
        '(-m --model)-m[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-m --model)--model=[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-hf --hf-repo)-hf[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-hf --hf-repo)--hf-repo=[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-y --yes)-y[fetch a model that is not here without asking]' \
        '(-y --yes)--yes[fetch a model that is not here without asking]' \
        '(-t --threads)-t[threads]:N: ' \
        '(-t --threads)--threads=[threads]:N: ' \
        '(-c --ctx-size)-c[tokens of context]:N: ' \
        '(-c --ctx-size)--ctx-size=[tokens of context]:N: ' \
        '(-ctk --cache-type-k)-ctk[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctk --cache-type-k)--cache-type-k=[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctv --cache-type-v)-ctv[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '(-ctv --cache-type-v)--cache-type-v=[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '--reference[the float32 path\: weights, activations and, unless -ctk or -ctv say otherwise, the cache]' \
        '--strict[one arithmetic for prompt and written rows, so cached and recomputed prefixes agree bit for bit]' \
        '(-C --cpu-mask)-C[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-C --cpu-mask)--cpu-mask=[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-Cr --cpu-range)-Cr[run on these CPUs only]:FIRST-LAST: ' \
        '(-Cr --cpu-range)--cpu-range=[run on these CPUs only]:FIRST-LAST: ' \
        '--mlock[keep the packed weights in memory, so that they are never swapped out]' \
        '(-v --verbose)-v[say what was chosen and why]' \
        '(-v --verbose)--verbose[say what was chosen and why]' \
        '(-h --help)--help[show the help]' ;;
    trace) _arguments \
        '--prompts=[JSON lines with prompts]:FILE:_files' \
        '(-o --output)-o[the trajectories]:FILE:_files' \
        '(-o --output)--output=[the trajectories]:FILE:_files' \
        '(-n --predict --n-predict)-n[tokens of an answer at most]:N: ' \
        '(-n --predict --n-predict)--predict=[tokens of an answer at most]:N: ' \
        '(-n --predict --n-predict)--n-predict=[tokens of an answer at most]:N: ' \
        '--block=[tokens of a block]:N: ' \
        '--states=[times a block is refined at most]:K: ' \
        '(-s --seed)-s[seed of the first guesses]:N: ' \
        '(-s --seed)--seed=[seed of the first guesses]:N: ' \
        '--limit=[prompts at most]:N: ' \
        '(-np --parallel)-np[answers written in the same steps]:N: ' \
        '(-np --parallel)--parallel=[answers written in the same steps]:N: ' \
        '--learned=[what the answers teach about guessing goes into this file, for run, chat and bench]:FILE:_files' \
        '(-m --model)-m[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-m --model)--model=[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-hf --hf-repo)-hf[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-hf --hf-repo)--hf-repo=[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-y --yes)-y[fetch a model that is not here without asking]' \
        '(-y --yes)--yes[fetch a model that is not here without asking]' \
        '(-t --threads)-t[threads]:N: ' \
        '(-t --threads)--threads=[threads]:N: ' \
        '(-c --ctx-size)-c[tokens of context]:N: ' \
        '(-c --ctx-size)--ctx-size=[tokens of context]:N: ' \
        '(-ctk --cache-type-k)-ctk[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctk --cache-type-k)--cache-type-k=[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctv --cache-type-v)-ctv[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '(-ctv --cache-type-v)--cache-type-v=[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '--reference[the float32 path\: weights, activations and, unless -ctk or -ctv say otherwise, the cache]' \
        '--strict[one arithmetic for prompt and written rows, so cached and recomputed prefixes agree bit for bit]' \
        '(-C --cpu-mask)-C[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-C --cpu-mask)--cpu-mask=[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-Cr --cpu-range)-Cr[run on these CPUs only]:FIRST-LAST: ' \
        '(-Cr --cpu-range)--cpu-range=[run on these CPUs only]:FIRST-LAST: ' \
        '--mlock[keep the packed weights in memory, so that they are never swapped out]' \
        '(-v --verbose)-v[say what was chosen and why]' \
        '(-v --verbose)--verbose[say what was chosen and why]' \
        '(-h --help)--help[show the help]' \
        '1:what:(jacobi)' ;;
    info) _arguments \
        '--graph[the operations of the graph and what each costs]' \
        '--rows=[--graph\: rows of the step that is counted]:N: ' \
        '--machine[only the machine\: needs no model]' \
        '--json[print one JSON value]' \
        '(-m --model)-m[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-m --model)--model=[a GGUF file, a Hugging Face folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-hf --hf-repo)-hf[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-hf --hf-repo)--hf-repo=[the same as -m hf\:USER/REPO\[\:QUANT\]]:USER/REPO\[\:QUANT\]:_stretto_hub' \
        '(-y --yes)-y[fetch a model that is not here without asking]' \
        '(-y --yes)--yes[fetch a model that is not here without asking]' \
        '(-t --threads)-t[threads]:N: ' \
        '(-t --threads)--threads=[threads]:N: ' \
        '(-c --ctx-size)-c[tokens of context]:N: ' \
        '(-c --ctx-size)--ctx-size=[tokens of context]:N: ' \
        '(-ctk --cache-type-k)-ctk[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctk --cache-type-k)--cache-type-k=[how the cache stores keys]:f16|bf16|f32|q8_0:(f16 bf16 f32 q8_0)' \
        '(-ctv --cache-type-v)-ctv[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '(-ctv --cache-type-v)--cache-type-v=[how the cache stores values\: as -ctk, or q4_0]:f16|bf16|f32|q8_0|q4_0:(f16 bf16 f32 q8_0 q4_0)' \
        '--reference[the float32 path\: weights, activations and, unless -ctk or -ctv say otherwise, the cache]' \
        '--strict[one arithmetic for prompt and written rows, so cached and recomputed prefixes agree bit for bit]' \
        '(-C --cpu-mask)-C[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-C --cpu-mask)--cpu-mask=[run on these CPUs only\: one bit for each, so f is CPUs 0 to 3]:HEX: ' \
        '(-Cr --cpu-range)-Cr[run on these CPUs only]:FIRST-LAST: ' \
        '(-Cr --cpu-range)--cpu-range=[run on these CPUs only]:FIRST-LAST: ' \
        '--mlock[keep the packed weights in memory, so that they are never swapped out]' \
        '(-v --verbose)-v[say what was chosen and why]' \
        '(-v --verbose)--verbose[say what was chosen and why]' \
        '(-h --help)--help[show the help]' ;;
    tokenize) _arguments \
        '(-m --model)-m[a GGUF file, a folder with tokenizer.json, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-m --model)--model=[a GGUF file, a folder with tokenizer.json, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-y --yes)-y[fetch a model that is not here without asking]' \
        '(-y --yes)--yes[fetch a model that is not here without asking]' \
        '--no-special[read special tokens spelled in the text as plain text]' \
        '--add-special[add the tokens that the model wants around a text]' \
        '--decode[turn a JSON array of ids back into bytes]' \
        '--json[print one JSON array of ids]' \
        '(-h --help)--help[show the help]' ;;
    template) _arguments \
        '(-m --model)-m[take the chat template of this model\: a file, a folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-m --model)--model=[take the chat template of this model\: a file, a folder, a name that '\''stretto models'\'' lists, or hf\:USER/REPO\[\:QUANT\]]:MODEL:_stretto_models' \
        '(-y --yes)-y[fetch a model that is not here without asking]' \
        '(-y --yes)--yes[fetch a model that is not here without asking]' \
        '--template=[take the template from this file instead]:FILE:_files' \
        '--vars=[a JSON object whose members are the variables]:FILE:_files' \
        '--now=[what the template takes for the present, as 2024-07-26T12\:00\:00]:TIME: ' \
        '(-h --help)--help[show the help]' ;;
    convert) _arguments \
        '(--type --outtype)--type=[element type of the matrices]:f32|bf16|f16|q8_0:(f32 bf16 f16 q8_0)' \
        '(--type --outtype)--outtype=[element type of the matrices]:f32|bf16|f16|q8_0:(f32 bf16 f16 q8_0)' \
        '--force[replace OUT when it is there already]' \
        '(-y --yes)-y[fetch a model that is not here without asking]' \
        '(-y --yes)--yes[fetch a model that is not here without asking]' \
        '(-q --quiet)-q[no progress]' \
        '(-q --quiet)--quiet[no progress]' \
        '(-h --help)--help[show the help]' \
        '*:IN OUT:_stretto_models' ;;
    pull) _arguments \
        '--into=[the folder to put models into]:DIR:_files -/' \
        '--as=[the file name to give to a single file]:NAME: ' \
        '--sha256=[what a single file must hash to]:HEX: ' \
        '--offline[use no network\: check what is there, take file\: sources only]' \
        '--force[fetch again from the beginning, and replace what is there once the new file is whole]' \
        '--json[print what was fetched as one JSON value]' \
        '(-q --quiet)-q[show no progress]' \
        '(-q --quiet)--quiet[show no progress]' \
        '--retries=[how often to ask a source again while no new byte arrives]:N: ' \
        '--retry-wait=[seconds before the first retry]:S: ' \
        '--stall=[give a connection up that brings less than 1 kB/s for this many seconds]:S: ' \
        '(-h --help)--help[show the help]' \
        '*:\[MODEL...\]:_stretto_models' ;;
    models) _arguments \
        '--here[list only what is on this machine]' \
        '(-q --quiet)-q[list the names alone, one a line]' \
        '(-q --quiet)--quiet[list the names alone, one a line]' \
        '--json[print the list as one JSON value]' \
        '(-y --yes)-y[rm\: do not ask]' \
        '(-y --yes)--yes[rm\: do not ask]' \
        '(-h --help)--help[show the help]' \
        '1:action:(list rm)' \
        '*:model:_stretto_here' ;;
    list|ls) _arguments '--here[list only what is on this machine]' '*:: :' ;;
    rm) _arguments '(-y --yes)'{-y,--yes}'[do not ask]' '*:model:_stretto_here' ;;
    esac
}
_stretto "$@"
