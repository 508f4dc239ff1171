#include "base/file.h"
#include "base/memory.h"
#include "format/extend.h"
#include "train/trainer_int.h"
#include <limits.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

const char *const train_method_names[TRAIN_METHODS] = { "lora", "full", "heads" };
const char *const train_keep_names[TRAIN_KEEPS] = { "auto", "values", "layers" };
const char *const train_optimizer_names[OPTIMIZERS] = { "adamw", "adafactor" };
const char *const train_precision_names[PRECISIONS] = { "f32", "bf16", "f16" };
const char *const train_loss_names[TRAIN_LOSSES] = { "ce", "kl", "cllm" };

void train_options_defaults(struct train_options *o)
{
    *o = (struct train_options){ .method = TRAIN_LORA, .rank = 16, .schedule = SCHEDULE_COSINE, .warm = 0.05, .clip = 1,
                                 .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8,
                                 .optimizer_bytes = 16, .epochs = 1, .batch_rows = 2048, .seed = 1,
                                 .hold_out = 0.02, .teacher_top = 16, .teacher_drawn = 16,
                                 .copies = 2, .noisy_weight = 1, .ar = 1, .depth = 4, .slice = 8192 };
}

/* ---- data ------------------------------------------------------------------------------------ */

static stretto_status read_files(struct trainer *t, const char *const *path, size_t n, struct lines *out,
                                 struct states *states, struct error *err)
{
    const struct lines_how how = { .states = states, .content = states ? states_content(t->model->source) : 0,
                                   .tokenizer = t->model->tokenizer, .chat = t->chat, .vocab = t->model->config.vocab,
                                   .context = t->o.context ? t->o.context : t->model->config.context,
                                   .skip_long = t->o.skip_long, .plain = t->o.plain_text,
                                   .all = t->o.learn_prompts && !states, .now = t->now };
    for (size_t i = 0; i < n; i++) {
        struct file_map m;
        TRY(file_map_open(&m, path[i], err));
        stretto_status s = lines_read(out, &how, path[i], (const char *)m.data, m.size, err);
        file_map_close(&m);
        TRY(s);
    }
    return STRETTO_OK;
}

/* Answers that the model wrote, with what it had in mind for each block of them. */
static stretto_status read_states(struct trainer *t, struct error *err)
{
    const struct lines *l = &t->lines;
    size_t had = l->n;
    TRY(read_files(t, &t->o.states, 1, &t->lines, &t->states, err));
    if (t->o.block && t->o.block != t->states.block)
        return fail(err, STRETTO_E_ARG, "%s was traced in blocks of %u tokens, not of %u: trace it with --block %u, or "
                    "leave --block out", t->o.states, t->states.block, t->o.block, t->o.block);
    t->o.block = t->states.block;
    content_of((const char *)t->states.v, t->states.n * sizeof *t->states.v, t->traced);
    uint32_t cut = l->left_out[LEFT_CUT], repeat = l->left_out[LEFT_REPEATS], twice = l->left_out[LEFT_TWICE];
    if (cut + repeat + twice)
        log_say(&t->o.log, LOG_INFO, "of %zu traced answers %u are left out: %u have no end, %u repeat themselves, %u "
                "are there twice", l->n - had + cut + repeat + twice, cut + repeat + twice, cut, repeat, twice);
    if (l->n == had) return fail(err, STRETTO_E_FORMAT, "no traced answer of %s is left to learn from", t->o.states);
    return STRETTO_OK;
}

static stretto_status read_data(struct trainer *t, struct error *err)
{
    if (!t->o.n_data && !t->o.states)
        return fail(err, STRETTO_E_ARG, "no data were named that could be learned from");
    TRY(read_files(t, t->o.data, t->o.n_data, &t->lines, NULL, err));
    if (t->o.states) TRY(read_states(t, err));
    if (t->o.n_valid) TRY(read_files(t, t->o.valid, t->o.n_valid, &t->held, NULL, err));
    else if (t->o.hold_out > 0) TRY(lines_split(&t->lines, t->o.hold_out, &t->held, err));
    if (!t->lines.n)
        return fail(err, STRETTO_E_FORMAT, "nothing is left to learn from: %u lines are too long, %zu are held out",
                    t->lines.skipped, t->held.n);
    if (t->lines.special)
        log_say(&t->o.log, LOG_WARN, "%u line%s of text spell special tokens (the first: %s, line %u) and are learned "
                "with them; --plain-text reads what is spelled so as text", t->lines.special,
                t->lines.special == 1 ? "" : "s", t->lines.file[t->lines.special_file], t->lines.special_line);
    if (t->lines.open)
        log_say(&t->o.log, LOG_WARN, "no token ends the answers that are learned, so the model will not learn to "
                "stop");
    return STRETTO_OK;
}

/* ---- phrases --------------------------------------------------------------------------------- */

static stretto_status open_model(struct trainer *t, const struct more_tokens *more, struct error *err)
{
    const struct model_adapter beside = { .path = (char *)(uintptr_t)t->o.lora, .scale = 1 };
    const struct model_open_options how = { .graph_only = true, .cancel = t->o.cancel, .more = more,
                                            .adapters = &beside, .n_adapters = t->o.lora != NULL };
    TRY(model_open(&t->model, t->o.model, &how, err));
    return t->model->tokenizer ? chat_open(&t->chat, t->model->tokenizer, err) : STRETTO_OK;
}

/* The model again, with a token for each phrase. */
static stretto_status open_with_phrases(struct trainer *t, struct error *err)
{
    const struct found_phrases *f = &t->phrases;
    const struct more_tokens more = { .n = f->table.n, .spelled = f->spelled, .spelled_at = f->spelled_at,
                                      .at = f->table.at, .piece = f->table.piece };
    chat_close(t->chat);
    model_close(t->model);
    t->chat = NULL;
    t->model = NULL;
    return open_model(t, &more, err);
}

static stretto_status find_phrases(struct trainer *t, struct error *err)
{
    struct found_phrases *f = &t->phrases;
    if (!t->model->tokenizer)
        return fail(err, STRETTO_E_UNSUP, "%s has no vocabulary, which phrases need", t->o.model);
    if (tokenizer_phrases(t->model->tokenizer))
        return fail(err, STRETTO_E_ARG, "%s has %u phrases already: it learns with those, leave out --phrases",
                    t->o.model, tokenizer_phrases(t->model->tokenizer)->n);
    TRY(phrases_find(f, t->model->tokenizer, &t->lines, &t->held, t->o.phrases, err));
    if (!f->table.n)
        return fail(err, STRETTO_E_FORMAT, "no phrase of the answers occurs in %d groups (%zu lines are learned from; "
                    "without \"group\" each is one): give it more data, or leave out --phrases", PHRASE_GROUPS,
                    t->lines.n);
    if (f->table.n < t->o.phrases)
        log_say(&t->o.log, LOG_WARN, "%u phrases were found, and %u asked for: no others occur in %d groups",
                f->table.n, t->o.phrases, PHRASE_GROUPS);
    return open_with_phrases(t, err);
}

/* What is learned is spelled with the phrases that were found, or that the model has. */
static stretto_status take_phrases(struct trainer *t, struct error *err)
{
    if (t->o.phrases) TRY(find_phrases(t, err));
    const struct phrases *p = t->model->tokenizer ? tokenizer_phrases(t->model->tokenizer) : NULL;
    if (!p) return STRETTO_OK;
    phrases_respell(&t->lines, p, true, t->o.seed);
    phrases_respell(&t->held, p, false, t->o.seed);
    return STRETTO_OK;
}

/* ---- the plan -------------------------------------------------------------------------------- */

/* Steps that full fine-tuning of such a model bears; ten times as large ones an adapter does. */
static double usual_rate(const struct trainer *t)
{
    double p = (double)t->plan.parameters, full = p < 2e8 ? 3e-4 : p < 8e8 ? 1e-4 : 5e-5;
    if (p < 5e6) full = 1e-3;
    if (trainer_has_heads(t)) return 1e-3;
    return t->o.method == TRAIN_FULL ? full : fmin(10 * full, 2e-3);
}

/* Of the first epoch, as whose batches all others are cut. */
static stretto_status count_steps(struct trainer *t, uint64_t *all, struct error *err)
{
    struct packing p;
    const struct packing_how how = { .seed = t->o.seed, .step_rows = t->plan.step_rows,
                                     .batch_rows = t->plan.batch_rows, .noise = &t->noise,
                                     .heads = trainer_head_rows(t) };
    TRY(packing_make(&p, &t->lines, &how, err));
    t->plan.rows = p.rows;
    t->plan.noisy_rows = p.noisy;
    t->batches = (uint32_t)p.n_batches;
    packing_done(&p);
    *all = (uint64_t)t->batches * t->o.epochs;
    t->plan.steps = t->o.steps && t->o.steps < *all ? t->o.steps : *all;
    return STRETTO_OK;
}

/* Of an adapter: as few rows at once as make no more of them than STEP_ROWS would, but for a twentieth. Its gradients
 * are small, and what is computed stays in nearer memory; but of a group's lines fewer share their beginning. */
static stretto_status choose_rows(struct trainer *t, uint32_t longest, uint32_t *chosen, struct error *err)
{
    const uint32_t few[] = { longest > STEP_ROWS ? longest : STEP_ROWS, 224, 192, 176, 160, 144, 128, 112, 96 };
    uint64_t rows = 0;
    *chosen = few[0];
    for (size_t i = 0; t->o.method == TRAIN_LORA && i < sizeof few / sizeof *few; i++) {
        struct packing p;
        const struct packing_how how = { .seed = t->o.seed, .step_rows = few[i], .batch_rows = t->o.batch_rows,
                                         .noise = &t->noise };
        if (how.step_rows < longest) break;
        TRY(packing_make(&p, &t->lines, &how, err));
        if (!rows) rows = p.rows;
        if (20 * p.rows <= 21 * rows) *chosen = how.step_rows;
        packing_done(&p);
    }
    return STRETTO_OK;
}

static stretto_status make_plan(struct trainer *t, struct error *err)
{
    struct train_plan *p = &t->plan;
    uint64_t all;
    uint32_t longest = pack_longest(&t->lines, &t->noise), held = pack_longest(&t->held, &t->noise);
    if (held > longest) longest = held;
    if (trainer_has_heads(t)) longest = t->o.depth + 1;
    p->samples = t->lines.n;
    p->learned = t->lines.learned;
    p->held = t->held.n;
    p->held_learned = t->held.learned;
    p->skipped = t->lines.skipped;
    p->longest = t->lines.longest;
    p->epochs = t->o.epochs;
    for (uint32_t i = 0; i < t->lines.n; i++) {
        p->tokens += t->lines.sample[i].n;
        p->rows_alone += t->lines.sample[i].last + noise_rows(&t->noise, &t->lines, i, 0);
    }
    p->step_rows = t->o.step_rows;
    if (!p->step_rows) TRY(choose_rows(t, longest, &p->step_rows, err));
    if (longest > p->step_rows)
        return fail(err, STRETTO_E_ARG, "the longest line needs %u rows%s, and --rows-at-once allows %u", longest,
                    t->noise.block ? ", noisy copies among them" : "", p->step_rows);
    p->batch_rows = t->o.batch_rows;
    TRY(count_steps(t, &all, err));
    if (trainer_has_heads(t)) p->rows_alone = p->rows;
    TRY(trainer_make_graph(t, err));
    p->lr = t->o.lr > 0 ? t->o.lr : usual_rate(t);
    p->flops = p->row_flops * (double)p->rows * (double)p->steps / ((double)all / t->o.epochs);
    return STRETTO_OK;
}

/* ---- open, begin, close ---------------------------------------------------------------------- */

static void template_content(struct trainer *t)
{
    const char *p;
    size_t n;
    bool has = t->model->tokenizer && tokenizer_chat_template(t->model->tokenizer, false, &p, &n);
    content_of(has ? p : "", has ? n : 0, t->template);
}

static stretto_status check_noise(const struct train_options *o, struct error *err)
{
    uint32_t block = o->block;
    if (o->phrases && o->states)
        return fail(err, STRETTO_E_ARG, "what was traced has no new phrases: teach phrases first, and trace the model "
                    "that has them");
    if (!o->block && !o->states) return STRETTO_OK;
    if (o->states && !o->block) block = 2;
    if (block < 2 || block > NOISE_BLOCK || !o->copies || o->copies > NOISE_COPIES)
        return fail(err, STRETTO_E_ARG, "blocks have 2 to %d tokens and 1 to %d noisy copies, not %u and %u",
                    NOISE_BLOCK, NOISE_COPIES, block, o->copies);
    if (!(o->ar >= 0) || !(o->noisy_weight > 0) || !isfinite(o->ar + o->noisy_weight))
        return fail(err, STRETTO_E_ARG, "noisy rows count something, and clean ones something or nothing");
    if (o->phrases && o->loss == TRAIN_LOSS_KL)
        return fail(err, STRETTO_E_ARG, "what the model says of phrases it cannot say before it has learned them: "
                    "teach phrases first and this behind it, or let noisy rows learn the lines' tokens (--loss ce)");
    return STRETTO_OK;
}

/* What needs something else that was asked for. */
static stretto_status check_together(const struct train_options *o, struct error *err)
{
    if (o->lora && o->method != TRAIN_HEADS)
        return fail(err, STRETTO_E_ARG, "heads alone learn beside an adapter: leave --lora out, or ask for "
                    "--method heads");
    if (o->written != 0 && !o->teacher)
        return fail(err, STRETTO_E_ARG, "what the model writes itself is judged by a teacher: name one");
    if (o->rows_of && o->method == TRAIN_FULL)
        return fail(err, STRETTO_E_ARG, "rows are chosen for an adapter; with the method full all weights act on all");
    if (!(o->agreement >= 0 && o->agreement <= 1) || (o->agreement > 0 && !o->watch))
        return fail(err, STRETTO_E_ARG, "the agreement of answers is a share, of answers that are watched");
    return check_noise(o, err);
}

static stretto_status check_options(const struct train_options *o, struct error *err)
{
    if (!o->model || !o->folder) return fail(err, STRETTO_E_ARG, "a model and a folder for the training are needed");
    if (file_is_other(o->model))
        return fail(err, STRETTO_E_ARG, "%s is no GGUF file: a folder is turned into one first (stretto convert)",
                    o->model);
    if (!o->epochs || !o->batch_rows || (o->method == TRAIN_LORA && !o->rank) || !(o->warm >= 0 && o->warm < 1)
        || !(o->hold_out >= 0 && o->hold_out < 1))
        return fail(err, STRETTO_E_ARG, "epochs, rows and rank are above 0; warm-up and hold-out are shares below 1");
    if (o->optimizer_bytes != 16 && o->optimizer_bytes != 12 && o->optimizer_bytes != 10)
        return fail(err, STRETTO_E_ARG, "AdamW takes 16, 12 or 10 bytes of a parameter, not %u", o->optimizer_bytes);
    if (o->optimizer != OPTIMIZER_ADAMW && o->optimizer_bytes != 16)
        return fail(err, STRETTO_E_ARG, "16, 12 or 10 bytes of a parameter belong to the optimizer adamw; %s takes "
                    "about 8", train_optimizer_names[o->optimizer]);
    if (!(o->average >= 0 && o->average < 1))
        return fail(err, STRETTO_E_ARG, "an average of weights forgets: its factor is from 0 to below 1, as 0.99");
    return check_together(o, err);
}

/* A training that goes on has the date it was begun with. */
static stretto_status take_date(struct trainer *t, struct error *err)
{
    char *text;
    long long begun = 0;
    t->now = time(NULL);
    if (!t->o.resume) return STRETTO_OK;
    TRY(train_run_text(t->o.folder, &text, err));
    const char *at = strstr(text, "\"begun\":");
    if (at && sscanf(at, "\"begun\": %lld", &begun) == 1) t->now = (time_t)begun;
    mem_free(text);
    return STRETTO_OK;
}

/* Noisy rows learn from the model as it is where no other teacher is named. */
static stretto_status take_noise(struct trainer *t, struct error *err)
{
    const struct train_options *o = &t->o;
    uint32_t context = o->context ? o->context : t->model->config.context;
    t->plan.distils = o->teacher != NULL;
    t->noise = (struct noise_how){ .block = o->block, .copies = o->copies, .clean = o->block ? o->ar : 1,
                                   .noisy = o->noisy_weight, .seed = o->seed,
                                   .states = o->states ? &t->states : NULL };
    if (o->block > context)
        return fail(err, STRETTO_E_ARG, "a block of %u tokens is longer than the context of %u", o->block, context);
    if (o->block && o->loss == TRAIN_LOSS_KL && !o->teacher) t->o.teacher = o->model;
    return STRETTO_OK;
}

static stretto_status open_all(struct trainer *t, struct error *err)
{
    TRY(check_options(&t->o, err));
    TRY(take_date(t, err));
    TRY(open_model(t, NULL, err));
    TRY(read_data(t, err));
    TRY(take_phrases(t, err));
    TRY(take_noise(t, err));
    lines_digest(&t->lines, t->data);
    lines_digest(&t->held, t->held_data);
    TRY(trainer_heads_open(t, err));
    TRY(make_plan(t, err));
    trainer_heads_plan(t);
    return trainer_teacher_open(t, err);
}

stretto_status trainer_open(struct trainer **out, const struct train_options *o, struct error *err)
{
    struct trainer *t = mem_zalloc(1, sizeof *t);
    *out = NULL;
    if (!t) return fail(err, STRETTO_E_NOMEM, "out of memory");
    t->o = *o;
    t->scaling.scale = o->precision == PRECISION_F16 ? SCALE_FIRST : 1;
    t->lock = -1;
    t->first_held = t->held_written = NAN;
    stretto_status s = open_all(t, err);
    if (s == STRETTO_OK) *out = t;
    else trainer_close(t);
    return s;
}

const struct train_plan *trainer_plan(const struct trainer *t) { return &t->plan; }
const struct lines *trainer_lines(const struct trainer *t) { return &t->lines; }
const struct noise_how *trainer_noise(const struct trainer *t) { return &t->noise; }
const struct tokenizer *trainer_tokenizer(const struct trainer *t) { return t->model->tokenizer; }
uint64_t trainer_skipped(const struct trainer *t, double *scale)
{
    *scale = t->scaling.scale;
    return t->scaling.skipped;
}
const struct found_phrases *trainer_phrases(const struct trainer *t) { return &t->phrases; }
uint64_t trainer_at(const struct trainer *t) { return t->step; }

static void take_roof(struct trainer *t)
{
    double rate[ARITHMETIC_KINDS] = { 0 };
    const struct backend *b = t->device->backend;
    struct error ignored = { 0 };
    if (b->roof_macs && b->roof_macs(t->weights, t->o.threads, rate, &ignored) == STRETTO_OK)
        t->plan.roof = 2 * rate[ARITHMETIC_F32];
}

stretto_status trainer_measure(struct trainer *t, struct error *err)
{
    TRY(trainer_upload(t, true, err));
    take_roof(t);
    return STRETTO_OK;
}

/* A tenth is for measuring and saving. */
static stretto_status fit_budget(struct trainer *t, struct error *err)
{
    double per_row;
    if (!(t->o.budget > 0)) return STRETTO_OK;
    TRY(trainer_time(t, &per_row, err));
    double rows = (t->o.budget - t->asking_seconds) * 0.9 / per_row, batches = (double)t->packing.n_batches;
    uint64_t steps = rows > 0 ? (uint64_t)(rows / ((double)t->plan.rows / batches)) : 0;
    if (!steps) steps = 1;
    if (steps >= t->plan.steps) return STRETTO_OK;
    log_say(&t->o.log, LOG_INFO, "%.3g minutes are enough for %llu of %llu steps", t->o.budget / 60,
            (unsigned long long)steps, (unsigned long long)t->plan.steps);
    t->plan.flops *= (double)steps / (double)t->plan.steps;
    t->plan.steps = steps;
    return STRETTO_OK;
}

/* Sums of norms and attention are rounded otherwise there: what comes of it is as good, and not the same. */
static void tell_level(const struct trainer *t)
{
    char now[LEVEL_MOST];
    trainer_level(t, now);
    if (t->o.resume && t->level[0] && strcmp(now, t->level) != 0)
        log_say(&t->o.log, LOG_WARN, "the training was begun with kernels of %s and goes on with those of %s: it will "
                "end with other bytes than if it had not (STRETTO_CPU=%s)", t->level, now, t->level);
}

/* With an adapter beside it: of both. */
static void content_with(struct trainer *t)
{
    char both[CONTENT_DIGITS + 24];
    int n = snprintf(both, sizeof both, "%s %016llx", t->base, (unsigned long long)t->model->adapters[0].key);
    content_of(both, (size_t)n, t->base);
}

/* All of the file is looked at once for its digest, and again, piece by piece, when weights are made of it. */
static void take_content(struct trainer *t)
{
    const struct source *s = t->model->source;
    source_content(s, t->base);
    for (size_t i = 0; i < source_tensor_count(s); i++) source_release(s, source_tensor_at(s, i));
    if (t->model->n_adapters) content_with(t);
}

stretto_status trainer_begin(struct trainer *t, struct error *err)
{
    take_content(t);
    template_content(t);
    TRY(trainer_teacher_content(t, err));
    TRY(trainer_folder(t, err));
    TRY(trainer_teacher_ask(t, err));
    TRY(trainer_heads_ask(t, err));
    TRY(trainer_upload(t, false, err));
    TRY(trainer_compile(t, err));
    tell_level(t);
    if (t->o.resume) TRY(trainer_go_on(t, err));
    else {
        TRY(trainer_try_rates(t, err));
        TRY(fit_budget(t, err));
        TRY(trainer_run_begin(t, err));
    }
    trainer_pairs_done(t);
    TRY(watch_begin(t, err));
    TRY(trainer_log_open(t, err));
    uint64_t warm = (uint64_t)ceil(t->o.warm * (double)t->plan.steps);
    t->schedule = (struct lr_schedule){ t->o.schedule, t->plan.lr, warm < t->plan.steps ? warm : t->plan.steps - 1,
                                     t->plan.steps };
    return STRETTO_OK;
}

void trainer_close(struct trainer *t)
{
    if (!t) return;
    const struct backend *b = t->device ? t->device->backend : NULL;
    if (t->measuring) b->program_close(t->measuring);
    if (t->program) b->program_close(t->program);
    if (t->weights) b->weights_close(t->weights);
    device_close(t->device);
    packed_done(&t->packed);
    packed_done(&t->held_packed);
    packing_done(&t->packing);
    packing_done(&t->held_packing);
    graph_done(&t->back);
    graph_done(&t->loss);
    graph_done(&t->forward);
    trainer_heads_done(t);
    adapter_done(&t->adapter);
    lines_done(&t->lines);
    lines_done(&t->held);
    found_phrases_done(&t->phrases);
    chat_close(t->chat);
    model_close(t->teacher);
    states_done(&t->states);
    taught_close(&t->taught);
    taught_close(&t->taught_written);
    lines_done(&t->written);
    lines_done(&t->mixed);
    model_close(t->model);
    watch_done(&t->before);
    mem_free(t->trained);
    if (t->log) fclose(t->log);
    if (t->lock >= 0) close(t->lock);
    mem_free(t);
}
