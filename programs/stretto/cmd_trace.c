/* stretto trace jacobi: the trajectories that consistency training reads, as JSON lines.
 *
 * Line 1 says what the file is of:
 *   {"format": "stretto-jacobi", "version": 1, "model": {"name", "family", "vocabulary", "bytes",
 *    "content"}, "block": n, "states": K, "seed": s, "tokens": most}
 * (and "adapters" in "model", where there are some: digests of them, with their scales)
 * then one line for each prompt, in the order of the file of prompts:
 *   {"id", "set", "prompt": [ids], "answer": [ids], "finish": "end" or "length",
 *    "group": the prompt's, where it has one,
 *    "blocks": [{"at": i, "states": [[ids], ...], "wrong": [j, ...]}, ...]}
 * A block is answer[at .. at + length of a state). states[0] is the guess: token i of the answer is
 * guessed as prompt[random_at(seed, 0, i, 0) % length of the prompt] (base/random.h); state k + 1
 * holds the model's best tokens after the clean text and state k. wrong[k] is the first place where
 * states[k] differs from the answer, or the length of the block: the fixed point, the last state.
 * A prompt that does not fit has "skipped": why instead. `content` is a hash of all weights. */
#include "base/json_tree.h"
#include "decode/learned.h"
#include "train/states.h"
#include "train/trajectory.h"
#include "stretto/commands.h"
#include "stretto/experimental.h"
#include "stretto/open.h"
#include "stretto/peer_flags.h"
#include "stretto/prompts.h"
#include "ui/progress.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct trace_options {
    struct model_options model;
    const char *prompts, *out, *learned;
    int64_t tokens, block, states, seed, limit, together;
};

enum { MAX_BLOCK = 256, MAX_STATES = 256, MAX_TOKENS = 1 << 16, STEP_ROWS = 512, MAX_FORKS = 64,
       MAX_TOGETHER = 64 };

#define AT(field) offsetof(struct trace_options, field)
static const struct option rows[] = {
    {"--prompts", "FILE", OPT_TEXT, AT(prompts), 0, 0,
     "prompts as JSON lines (bench/make_prompts.py writes some); - is standard input"},
    {"-o --output", "FILE", OPT_TEXT, AT(out), 0, 0,
     "write the trajectories to this file; a file begun earlier is resumed"},
    {"-n --predict --n-predict", "N", OPT_INT, AT(tokens), 1, MAX_TOKENS,
     "most tokens of an answer [256]"},
    {"--block", "N", OPT_INT, AT(block), 2, MAX_BLOCK, "tokens of a block [16]"},
    {"--states", "K", OPT_INT, AT(states), 1, MAX_STATES,
     "refine a block at most K times [8]"},
    {"-s --seed", "N", OPT_INT, AT(seed), 0, 0x7fffffff, "seed of the first guesses [0]"},
    {"--limit", "N", OPT_INT, AT(limit), 0, PROMPTS_MAX, "use the first N prompts; 0 uses all [0]"},
    {"-np --parallel", "N", OPT_INT, AT(together), 1, MAX_TOGETHER,
     "write this many answers in the same steps [8]"},
    {"--learned", "FILE", OPT_TEXT, AT(learned), 0, 0,
     "write what the answers teach about guessing to this file, for run, chat and bench"},
};
#undef AT

struct trace {
    const struct trace_options *o;
    stretto_model *m;
    struct engine *e;
    struct prompts prompts;
    uint32_t forks, together, context;
    struct trajectory_how how;
    struct trajectory_answer *answers; /* [prompts.n]; of those that fit, in their order     */
    size_t *of, n_answers;             /* [prompts.n]: which prompt an answer is to          */
    char **line;                       /* [prompts.n]: those that wait for others before them */
    size_t written;                    /* prompts whose lines are in the file                */
    struct trajectory_block *blocks;   /* of one answer */
    struct learned learned;            /* of --learned  */
    FILE *out;
    size_t skipped;                    /* did not fit the context */
    struct ui_progress ui;
    struct progress hook;
};

/* By the model's end token, or by the prompt's stop string, which is then part of the answer. */
static bool ends(const void *ud, size_t which, const int32_t *token, uint32_t n)
{
    enum { TOKENS = 64 };
    const struct trace *t = ud;
    const char *stop = t->prompts.v[t->of[which]].stop;
    char text[4096];
    size_t length = 0;
    if (stretto_token_ends(t->m, token[n - 1])) return true;
    if (!stop) return false;
    uint32_t from = n > TOKENS ? n - TOKENS : 0;
    return stretto_detokenize(t->m, token + from, n - from, text, sizeof text, &length) ==
               STRETTO_OK &&
           strstr(text, stop);
}

static void said(const void *ud, int32_t before, int32_t token, const struct step_top *top)
{
    recycle_learn(&((const struct trace *)ud)->learned.recycled, before, token, top);
}

static uint64_t vocabulary_of(const struct trace *t)
{
    const struct model *m = stretto_model_inside(t->m);
    return learned_vocabulary(m->tokenizer, m->config.vocab);
}

static int learned_begin(struct trace *t)
{
    struct error err = { 0 };
    learned_init(&t->learned);
    if (!t->o->learned) return EXIT_DONE;
    int code = learned_writable("trace", t->o->learned);
    if (code != EXIT_DONE) return code;
    stretto_status s = learned_place(&t->learned, stretto_model_inside(t->m)->config.vocab, &err);
    if (s == STRETTO_OK && access(t->o->learned, F_OK) == 0)
        s = learned_load(&t->learned, vocabulary_of(t), t->o->learned, &err);
    return s == STRETTO_OK ? EXIT_DONE : command_fail("trace", s, err.text);
}

/* Also when it was interrupted: what is traced is not traced again. */
static int learned_end(struct trace *t)
{
    struct error err = { 0 };
    stretto_status s = learned_save(&t->learned, vocabulary_of(t), t->o->learned, &err);
    return s == STRETTO_OK ? EXIT_DONE : command_fail("trace", s, err.text);
}

/* Whose texts these are besides: adapters by a digest of their numbers and their scale. */
static void put_adapters(json_t *model, const struct model *m)
{
    json_t *all = json_array();
    for (size_t i = 0; i < m->n_adapters; i++) {
        char text[64];
        snprintf(text, sizeof text, "%016llx=%g", (unsigned long long)m->adapters[i].key,
                 (double)m->adapters[i].scale);
        json_array_append_new(all, json_string(text));
    }
    if (m->n_adapters) json_object_set(model, "adapters", all);
    json_decref(all);
}

static char *header(const struct trace *t)
{
    const struct model *m = stretto_model_inside(t->m);
    const char *path = source_path(m->source), *slash = strrchr(path, '/');
    char content[17];
    snprintf(content, sizeof content, "%016llx", (unsigned long long)states_content(m->source));
    json_t *j = json_pack("{s:s,s:i,s:{s:s,s:s,s:I,s:I,s:s},s:I,s:I,s:I,s:I}", "format",
                          "stretto-jacobi", "version", 1, "model", "name", slash ? slash + 1 : path,
                          "family", m->family->name, "vocabulary", (json_int_t)m->config.vocab,
                          "bytes", (json_int_t)m->tensor_bytes, "content", content, "block",
                          (json_int_t)t->o->block, "states", (json_int_t)t->o->states, "seed",
                          (json_int_t)t->o->seed, "tokens", (json_int_t)t->o->tokens);
    put_adapters(json_object_get(j, "model"), m);
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    json_decref(j);
    return text;
}

static json_t *list(const int32_t *v, size_t n)
{
    json_t *l = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(l, json_integer(v[i]));
    return l;
}

/* A line is written whole or not at all, as far as a file allows; a part that was cut off by a
 * full disk or a power cut is taken back by the next call. */
static stretto_status write_line(struct trace *t, const char *line, struct error *err)
{
    if (line && fprintf(t->out, "%s\n", line) > 0 && fflush(t->out) == 0) return STRETTO_OK;
    return fail(err, line ? STRETTO_E_IO : STRETTO_E_NOMEM, "cannot write %s: %s", t->o->out,
                line ? strerror(errno) : "out of memory");
}

/* How many lines behind the header the file holds; what is behind the last whole one is cut off. */
static int resume(struct trace *t, size_t *done)
{
    struct error err = { 0 };
    size_t n;
    char *want = header(t), *text, *at;
    int code = EXIT_DONE;
    *done = 0;
    t->out = fopen(t->o->out, "r+be");
    bool fresh = !t->out && errno == ENOENT;
    if (fresh) t->out = fopen(t->o->out, "w+be");
    if (!t->out || !want) {
        fail(&err, STRETTO_E_IO, "cannot open %s: %s", t->o->out,
             want ? strerror(errno) : "out of memory");
        free(want);
        return command_fail("trace", STRETTO_E_IO, err.text);
    }
    if (flock(fileno(t->out), LOCK_EX | LOCK_NB) != 0) {
        fail(&err, STRETTO_E_IO, "another process writes %s; give another name with -o", t->o->out);
        free(want);
        return command_fail("trace", STRETTO_E_IO, err.text);
    }
    text = at = read_text("trace", t->o->out, &n);
    if (!text) code = EXIT_FAILED;
    char *stop = text ? memchr(text, '\n', n) : NULL;
    if (stop) {
        *stop = '\0';
        if (strcmp(text, want) != 0)
            code = command_fail(
                "trace",
                fail(&err, STRETTO_E_FORMAT,
                     "%s was begun with another model or other options, or is another kind of file; "
                     "give another name with -o",
                     t->o->out),
                err.text);
        at = stop + 1;
        while (code == EXIT_DONE && (stop = memchr(at, '\n', (size_t)(text + n - at)))) {
            json_t *j;
            json_tree(&j, at, (size_t)(stop - at), JSON_TWICE_REFUSED, "a line", NULL);
            const char *id = json_string_value(json_object_get(j, "id"));
            bool same = id && *done < t->prompts.n && strcmp(id, t->prompts.v[*done].id) == 0;
            json_decref(j);
            if (!same && *done == t->prompts.n) {
                fail(&err, STRETTO_E_FORMAT,
                     "%s already has answers to more prompts than --limit allows: raise --limit, or give "
                     "another name with -o", t->o->out);
                code = command_fail("trace", STRETTO_E_FORMAT, err.text);
            } else if (!same) {
                fail(&err, STRETTO_E_FORMAT,
                     "line %zu of %s belongs to another file of prompts; give another name with -o",
                     *done + 2, t->o->out);
                code = command_fail("trace", STRETTO_E_FORMAT, err.text);
            }
            ++*done;
            at = stop + 1;
        }
    } else if (text && n && strncmp(text, want, n < strlen(want) ? n : strlen(want)) != 0) {
        fail(&err, STRETTO_E_FORMAT, "%s is another kind of file; give another name with -o",
             t->o->out);
        code = command_fail("trace", STRETTO_E_FORMAT, err.text);
    }
    if (code == EXIT_DONE) {
        long keep = (long)(at - text);
        if (ftruncate(fileno(t->out), keep) != 0 || fseek(t->out, keep, SEEK_SET) != 0) {
            fail(&err, STRETTO_E_IO, "cannot write %s: %s", t->o->out, strerror(errno));
            code = command_fail("trace", STRETTO_E_IO, err.text);
        } else if (keep == 0 && write_line(t, want, &err) != STRETTO_OK)
            code = command_fail("trace", err.status, err.text);
    }
    free(text);
    free(want);
    return code;
}

static json_t *record(const struct trace *t, const struct prompt *p,
                      const struct trajectory_answer *a)
{
    json_t *blocks = json_array();
    uint32_t n = (a->n + t->how.block - 1) / t->how.block;
    for (uint32_t i = 0; i < n; i++) {
        const struct trajectory_block *b = &t->blocks[i];
        json_t *states = json_array(), *wrong = json_array();
        for (uint32_t k = 0; k < b->n_states; k++) {
            json_array_append_new(states, list(b->state + (size_t)k * t->how.block, b->n));
            json_array_append_new(wrong, json_integer(b->wrong[k]));
        }
        json_array_append_new(blocks, json_pack("{s:I,s:o,s:o}", "at", (json_int_t)b->at, "states",
                                                states, "wrong", wrong));
    }
    json_t *j = json_pack("{s:s,s:s,s:o,s:o,s:s,s:o}", "id", p->id, "set", p->set, "prompt",
                          list(p->ids, p->n), "answer", list(a->token, a->n), "finish",
                          a->ended ? "end" : "length", "blocks", blocks);
    if (p->group) json_object_set_new(j, "group", json_string(p->group));
    return j;
}

static char *text_of(json_t *j)
{
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    return text;
}

static bool fits(const struct trace *t, const struct prompt *p) { return p->n + t->how.tokens <= t->context; }

/* Lines stand in the order of the prompts: those whose turn it is. */
static stretto_status write_lines(struct trace *t, struct error *err)
{
    for (; t->written < t->prompts.n; t->written++) {
        const struct prompt *p = &t->prompts.v[t->written];
        char **line = &t->line[t->written];
        if (!*line && fits(t, p)) return STRETTO_OK;
        if (!*line) {
            *line = text_of(json_pack("{s:s,s:s,s:s}", "id", p->id, "set", p->set, "skipped",
                                      "prompt and answer do not fit in the context"));
            t->skipped++;
        }
        TRY(write_line(t, *line, err));
        free(*line);
        *line = NULL;
        progress_tell(&t->hook, "tracing", t->written + 1, t->prompts.n);
    }
    return STRETTO_OK;
}

static stretto_status answered(void *ud, size_t which, int32_t seq, struct error *err)
{
    struct trace *t = ud;
    const struct trajectory_answer *a = &t->answers[which];
    TRY(trajectory_blocks(t->e, &t->how, seq, a, 0, t->forks, t->blocks, err));
    if (t->o->learned) suffix_store_add(&t->learned.store, a->token, a->n);
    char **line = &t->line[t->of[which]];
    *line = text_of(record(t, &t->prompts.v[t->of[which]], a));
    return *line ? write_lines(t, err) : fail(err, STRETTO_E_NOMEM, "out of memory");
}

/* All prompts from number `first` on. */
static int trace_all(struct trace *t, size_t first)
{
    struct error err = { 0 };
    for (size_t i = first; i < t->prompts.n; i++) {
        const struct prompt *p = &t->prompts.v[i];
        if (!fits(t, p)) continue;
        t->of[t->n_answers] = i;
        t->answers[t->n_answers++] = (struct trajectory_answer){ .prompt = p->ids, .n_prompt = (uint32_t)p->n };
    }
    t->written = first;
    stretto_status s = write_lines(t, &err);
    if (s == STRETTO_OK)
        s = trajectory_answers(t->e, &t->how, t->answers, t->n_answers, t->together, answered, t, &err);
    ui_progress_break(&t->ui);
    if (s == STRETTO_E_CANCEL)
        return command_fail("trace", s,
                            "interrupted; what was written is whole, and the same command resumes it");
    return s == STRETTO_OK ? EXIT_DONE : command_fail("trace", s, err.text);
}

static int open_trace(struct trace *t)
{
    const struct trace_options *o = t->o;
    const struct model *m = stretto_model_inside(t->m);
    struct error err = { 0 };
    uint32_t longest = 0, block = (uint32_t)o->block, states = (uint32_t)o->states;
    uint32_t most = o->model.context ? (uint32_t)o->model.context : m->config.context;
    if (m->graph.logits == GRAPH_NONE)
        return command_fail("trace", STRETTO_E_UNSUP,
                            "this model is an encoder; it writes no text");
    if (o->tokens >= most)
        return command_fail("trace", STRETTO_E_ARG,
                            "answers of that many tokens fill the whole context; ask for fewer with -n");
    for (size_t i = 0; i < t->prompts.n; i++) {
        const struct prompt *p = &t->prompts.v[i];
        if (p->n + (size_t)o->tokens <= most && p->n > longest) longest = (uint32_t)p->n;
        for (size_t k = 0; k < p->n; k++)
            if ((uint32_t)p->ids[k] >= m->config.vocab) {
                fail(&err, STRETTO_E_FORMAT, "prompt %s has token %d; the vocabulary ends at %u",
                     p->id, p->ids[k], m->config.vocab - 1);
                return command_fail("trace", STRETTO_E_FORMAT, err.text);
            }
    }
    t->context = longest + (uint32_t)o->tokens;
    t->together = (uint32_t)o->together < t->prompts.n ? (uint32_t)o->together
                                                       : (uint32_t)t->prompts.n;
    t->forks = STEP_ROWS / block < MAX_FORKS ? STEP_ROWS / block : MAX_FORKS;
    t->how = (struct trajectory_how){block, states, (uint64_t)o->seed, (uint32_t)o->tokens, ends,
                                     o->learned ? said : NULL, t, &interrupted};
    /* A block's sequence has its own copy of the page it begins in and what it spills into. */
    uint32_t own = (block / PAGE_SLOTS + 2) * PAGE_SLOTS;
    struct engine_options eo = {
        .threads = (unsigned)o->model.threads, .context = t->context, .max_rows = STEP_ROWS,
        .sequences = t->together + t->forks,
        .pool_tokens = t->together * (t->context + PAGE_SLOTS) + t->forks * own,
        .cache = m->reference ? CACHE_F32 : CACHE_F16,
        .strict = o->model.strict || m->reference };
    const char *type;
    int code = cache_from("trace", &o->model, &type);
    if (code != EXIT_DONE) return code;
    if (type) cache_type_by_name(type, &eo.cache);
    stretto_status s = engine_open(&t->e, m, &eo, &err);
    if (s != STRETTO_OK) return command_fail("trace", s, err.text);
    engine_cancel(t->e, engine_flag_set, (void *)(uintptr_t)&interrupted);
    for (uint32_t f = 0; f < t->forks; f++) engine_seq_open(t->e, &(int32_t){ 0 }, NULL);    /* 0 .. forks - 1 */
    uint32_t blocks = (t->how.tokens + block - 1) / block;
    t->answers = calloc(t->prompts.n + 1, sizeof *t->answers);
    t->of = calloc(t->prompts.n + 1, sizeof *t->of);
    t->line = calloc(t->prompts.n + 1, sizeof *t->line);
    t->blocks = calloc(blocks, sizeof *t->blocks);
    bool ok = t->answers && t->of && t->line && t->blocks;
    for (uint32_t i = 0; i < blocks && ok; i++) {
        t->blocks[i].state = calloc((size_t)(states + 1) * block, sizeof(int32_t));
        t->blocks[i].wrong = calloc(states + 1, sizeof(uint32_t));
        ok = t->blocks[i].state && t->blocks[i].wrong;
    }
    return ok ? EXIT_DONE : command_fail("trace", STRETTO_E_NOMEM, NULL);
}

static void close_trace(struct trace *t)
{
    uint32_t blocks = t->how.block ? (t->how.tokens + t->how.block - 1) / t->how.block : 0;
    for (size_t i = 0; t->line && i < t->prompts.n; i++) free(t->line[i]);
    for (uint32_t i = 0; t->blocks && i < blocks; i++) {
        free(t->blocks[i].state);
        free(t->blocks[i].wrong);
    }
    free(t->answers);
    free(t->of);
    free(t->line);
    free(t->blocks);
    engine_close(t->e);
    learned_close(&t->learned);
    prompts_done(&t->prompts);
    stretto_model_close(t->m);
}

static int trace_run(void *options, size_t n_operands, char **operands)
{
    struct trace t = { .o = options };
    (void)n_operands;
    if (strcmp(operands[0], "jacobi") != 0)
        return command_odd("trace", "trace of", operands[0], "jacobi");
    if (!t.o->prompts) return command_usage("trace", "prompts are missing: --prompts FILE");
    if (!t.o->out) return command_usage("trace", "a name for the result is missing: -o FILE");
    if (strcmp(t.o->out, "-") == 0)
        return command_usage("trace", "-o needs the name of a file, so that an interrupted run can be resumed");
    catch_interrupt();
    ui_progress_init(&t.ui, stderr);
    t.ui.items = true;
    t.hook = ui_progress_hook(&t.ui);
    size_t at = 0;
    int code = open_model("trace", &t.o->model, false, &t.m);
    if (code == EXIT_DONE)
        code = prompts_read("trace", t.m, t.o->prompts, (size_t)t.o->limit, &t.prompts);
    if (code == EXIT_DONE) code = open_trace(&t);
    if (code == EXIT_DONE) code = learned_begin(&t);
    if (code == EXIT_DONE) code = resume(&t, &at);
    bool begun = code == EXIT_DONE && t.o->learned;
    if (code == EXIT_DONE) code = trace_all(&t, at);
    if (t.skipped)
        fprintf(stderr, "stretto trace: %zu prompts were skipped: with their answers they do not fit in the context "
                "of %u; ask for a larger one with -c, or for shorter answers with -n\n", t.skipped, t.context);
    if (t.out && fclose(t.out) != 0 && code == EXIT_DONE)
        code = command_fail("trace", STRETTO_E_IO, strerror(errno));
    if (begun) {
        int kept = learned_end(&t);
        if (code == EXIT_DONE) code = kept;
    }
    close_trace(&t);
    return code;
}

static void trace_defaults(void *options)
{
    struct trace_options *o = options;
    model_options_defaults(&o->model);
    o->model.stays = true;
    o->tokens = 256;
    o->block = 16;
    o->states = 8;
    o->together = 8;
}

static const struct option_group group = { "Trajectories", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = {{&group, 0},
                                         {&group_model, offsetof(struct trace_options, model)}};
const struct command command_trace = {
    .name = "trace",
    .summary = "write Jacobi trajectories for consistency training",
    .operands = "jacobi",
    .description =
        "Writes the best answer to every prompt, then starts all blocks of it with guessed tokens and "
        "refines them in the same steps until they equal the answer. The file holds JSON lines: one for "
        "the model and the options, then for each prompt the prompt, the answer and the states of every "
        "block (docs/decoding.md). Ctrl-C leaves a whole file, and the same command resumes it.",
    .uses = uses,
    .n_uses = 2,
    .options_size = sizeof(struct trace_options),
    .min_operands = 1,
    .max_operands = 1,
    .defaults = trace_defaults,
    .run = trace_run,
    .unknown = peer_flag,
};
