/* stretto bench: rows and keys as llama-bench prints them, so the same scripts read both. */
#include "stretto/bench.h"
#include "stretto/commands.h"
#include "stretto/experimental.h"
#include "stretto/open.h"
#include "stretto/output.h"
#include "stretto/peer_flags.h"
#include "ui/progress.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bench_options {
    struct model_options model;
    struct int_list prompt, generate, depth, sequences, threads;
    int64_t repeat;
    bool roof, compare, mix;
    const char *format, *teach;
    struct decode_bench decode;
};

enum { MAX_REPEAT = 1000, MAX_OPS = 64 };

#define AT(field) offsetof(struct bench_options, field)
static const struct option rows[] = {
    {"-p --n-prompt", "N,N", OPT_INTS, AT(prompt), 0, 1 << 24, "prompt sizes [512]"},
    {"-n --n-gen", "N,N", OPT_INTS, AT(generate), 0, 1 << 24, "numbers of tokens to write [128]"},
    {"-d --n-depth", "N,N", OPT_INTS, AT(depth), 0, 1 << 24,
     "tokens in the cache before the test [0]"},
    {"-np --parallel", "N,N", OPT_INTS, AT(sequences), 1, 4096, "sequences that are written at once [1]"},
    {"-t --threads", "N,N", OPT_INTS, AT(threads), 0, 256,
     "threads; 0 takes what the machine allows [0]"},
    {"-r --repetitions", "N", OPT_INT, AT(repeat), 1, MAX_REPEAT, "repetitions of each test [5]"},
    {"--roof", NULL, OPT_FLAG, AT(roof), 0, 0,
     "show where the time goes: each operation beside the best that the machine could do"},
    {"--mix", NULL, OPT_FLAG, AT(mix), 0, 0,
     "time -np requests [1,4,16] that arrive over time, with prompts of 200 tokens and answers of 64: tokens per "
     "second, time to the first token and between tokens, beside the same with prompts read whole"},
    {"--teach", "lora|full|lora-bf16|full-bf16", OPT_CHOICE, AT(teach), 0, 0,
     "steps of training with -p rows, in texts of 256 random tokens: where their time goes, as --roof shows it; bf16: "
     "with --precision bf16 of 'teach'"},
    {"--compare", NULL, OPT_FLAG, AT(compare), 0, 0,
     "measure nothing; show what got slower or faster between two files that -o json wrote"},
    {"-o --output", "md|csv|json", OPT_CHOICE, AT(format), 0, 0, "how the rows are printed [md]"},
};
#undef AT

struct result {
    struct speed_test t;
    unsigned threads;
    size_t n;
    double seconds[MAX_REPEAT], tokens, peak_rss, cache_bytes;
    double joules, card_joules;      /* of all repetitions; negative: nobody can tell */
    struct speed_roof roof;
    double roof_share;
    struct op_time ops[MAX_OPS];     /* --roof: of one repetition */
    size_t n_ops;
};

struct bench {
    const struct bench_options *o;
    stretto_model *m;
    stretto_model_info info;
    stretto_engine_info engine;
    json_t *rows;
    size_t printed;
    struct speed_roof roof;
    double peak_rss;                 /* of all tests so far */
    struct energy meter;
    bool metered;                    /* some row has joules */
};

static void statistics(const struct result *r, double *mean, double *deviation, double *ns)
{
    double sum = 0, sum2 = 0, time = 0;
    for (size_t i = 0; i < r->n; i++) {
        double ts = r->tokens / r->seconds[i];
        sum += ts;
        sum2 += ts * ts;
        time += r->seconds[i];
    }
    *mean = sum / (double)r->n;
    double var = sum2 / (double)r->n - *mean * *mean;
    *deviation = r->n > 1 && var > 0 ? sqrt(var * (double)r->n / (double)(r->n - 1)) : 0;
    *ns = time / (double)r->n * 1e9;
}

/* The most memory this process has held since the last call with `again`, which forgets it. */
static double peak_rss(bool again)
{
    char line[128];
    double kb = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lf kB", &kb) == 1) break;
    if (f) fclose(f);
    if (again && (f = fopen("/proc/self/clear_refs", "we"))) {
        fputs("5", f);
        fclose(f);
    }
    return kb * 1024;
}

/* Joules a token, of all whose counters can be read; negative: of nobody. */
static double joules_per_token(const struct result *r)
{
    if (r->joules < 0 && r->card_joules < 0) return -1;
    return (fmax(r->joules, 0) + fmax(r->card_joules, 0)) / (r->tokens * (double)r->n);
}

/* Whose they are. */
static const char *joules_of(const struct result *r)
{
    if (r->joules < 0) return r->card_joules < 0 ? NULL : "card";
    return r->card_joules < 0 ? "cpu" : "cpu+card";
}

static json_t *row_json(const struct bench *b, const struct result *r)
{
    double mean, deviation, ns;
    statistics(r, &mean, &deviation, &ns);
    char when[32];
    time_t t = time(NULL);
    struct tm tm;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
    const struct model_options *m = &b->o->model;
    const char *plain = m->reference ? "f32" : "f16", *v = m->type_v ? m->type_v : m->type_k;
    bool four = v && strcmp(v, "q4_0") == 0;
    const char *k = m->type_k ? m->type_k : four ? "q8_0" : v;
    json_t *ns_list = json_array(), *ts_list = json_array();
    for (size_t i = 0; i < r->n; i++) {
        json_array_append_new(ns_list, json_integer((json_int_t)(r->seconds[i] * 1e9)));
        json_array_append_new(ts_list, json_real(r->tokens / r->seconds[i]));
    }
    json_t *j = json_pack(
        "{s:s,s:s,s:s,s:I,s:I,s:i,s:s,s:s,s:I,s:I,s:I,s:I,s:s,s:I,s:f,s:f,s:o,s:o}", "build_number",
        STRETTO_VERSION, "model_filename", source_path(stretto_model_inside(b->m)->source), "model_type",
        b->info.family, "model_size", (json_int_t)b->info.file_bytes, "model_n_params",
        (json_int_t)b->info.parameters, "n_threads", (int)r->threads, "type_k", k ? k : plain, "type_v",
        v ? v : plain, "n_prompt", (json_int_t)r->t.prompt, "n_gen", (json_int_t)r->t.generate, "n_depth",
        (json_int_t)r->t.depth, "n_parallel", (json_int_t)r->t.sequences, "test_time", when,
        "avg_ns", (json_int_t)ns, "avg_ts", mean, "stddev_ts", deviation, "samples_ns", ns_list,
        "samples_ts", ts_list);
    json_object_set_new(j, "device", json_string(b->info.device));
    json_object_set_new(j, "device_name", json_string(stretto_model_inside(b->m)->device->name));
    json_object_set_new(j, "load_s", json_real(b->info.load_seconds));
    json_object_set_new(j, "peak_rss", json_integer((json_int_t)r->peak_rss));
    json_object_set_new(j, "cache_bytes", json_integer((json_int_t)r->cache_bytes));
    bool known = r->roof.bytes > 0;      /* nobody measures several devices together */
    json_object_set_new(j, "roof_gb_s", known ? json_real(r->roof.bytes / 1e9) : json_null());
    json_object_set_new(j, "roof_share", known && r->t.generate ? json_real(r->roof_share) : json_null());
    const char *whose = joules_of(r);
    json_object_set_new(j, "joules_per_token", whose ? json_real(joules_per_token(r)) : json_null());
    json_object_set_new(j, "joules_of", whose ? json_string(whose) : json_null());
    if (r->n_ops)
        json_object_set_new(j, "operations", roof_json(&r->t, r->ops, r->n_ops, &r->roof));
    return j;
}

void bench_test_name(const struct speed_test *t, char *name, size_t size)
{
    int n =
        snprintf(name, size, "%s%u", t->prompt ? "pp" : "tg", t->prompt ? t->prompt : t->generate);
    if (t->depth) n += snprintf(name + n, size - (size_t)n, " @ d%u", t->depth);
    if (t->sequences > 1) snprintf(name + n, size - (size_t)n, " x %u", t->sequences);
}

static void print_row(struct bench *b, const struct result *r)
{
    json_t *j = row_json(b, r);
    char name[64], share[16] = "";
    double mean, deviation, ns;
    statistics(r, &mean, &deviation, &ns);
    bench_test_name(&r->t, name, sizeof name);
    if (r->t.generate && r->roof.bytes > 0) snprintf(share, sizeof share, "%.0f %%", 100 * r->roof_share);
    if (strcmp(b->o->format, "json") == 0) json_array_append(b->rows, j);
    else if (b->o->roof) roof_print(b->o->format, !b->printed, &r->t, r->ops, r->n_ops, &r->roof);
    else if (strcmp(b->o->format, "csv") == 0) {
        const char *key;
        json_t *v;
        if (!b->printed) {
            bool first = true;
            json_object_foreach(j, key, v) if (!json_is_array(v))
            {
                printf("%s%s", first ? "" : ",", key);
                first = false;
            }
            putchar('\n');
        }
        bool first = true;
        json_object_foreach(j, key, v) if (!json_is_array(v)) {
            char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
            printf("%s%s", first ? "" : ",", text ? text : "");
            free(text);
            first = false;
        }
        putchar('\n');
    } else {
        if (!b->printed) b->metered = joules_of(r) != NULL;
        if (!b->printed)
            printf("| model | size | params | threads | test | t/s | of the roof |%s\n| --- | --: | "
                   "--: | --: | --: | --: | --: |%s\n", b->metered ? " J/token |" : "",
                   b->metered ? " --: |" : "");
        printf("| %s | %.1f MB | %.1f M | %u | %s | %.2f ± %.2f | %s |", b->info.family,
               (double)b->info.file_bytes / 1e6, (double)b->info.parameters / 1e6, r->threads, name,
               mean, deviation, share);
        if (b->metered && joules_of(r)) printf(" %.3g |", joules_per_token(r));
        else if (b->metered) printf(" |");
        putchar('\n');
    }
    fflush(stdout);
    b->printed++;
    json_decref(j);
}

/* What the whole took, and where it ran unless that was this machine's CPU. */
static void print_totals(const struct bench *b)
{
    const char *name = stretto_model_inside(b->m)->device->name;
    putchar('\n');
    if (strcmp(b->info.device, "cpu") != 0) {
        printf("%s", b->info.device);
        if (*name) {
            fputs(" (", stdout);
            tame_print(stdout, name, strlen(name));
            putchar(')');
        }
        fputs(": ", stdout);
    }
    printf("load %.2f s, peak memory %.0f MB, weights %.0f MB", b->info.load_seconds, b->peak_rss / 1e6,
           (double)b->info.weight_bytes / 1e6);
    if (b->roof.bytes > 0) printf(", read at %.1f GB/s by the roof's probe\n", b->roof.bytes / 1e9);
    else puts("; the roof is not measured there");
}

static double plus(double sum, double more) { return sum < 0 || more < 0 ? -1 : sum + more; }

static int run_test(struct bench *b, struct engine *e, struct result *r)
{
    struct error err = { 0 };
    struct speed_cost cost;
    double ignored;
    r->n = (size_t)b->o->repeat;
    r->tokens = (double)(r->t.prompt ? r->t.prompt : r->t.generate) * r->t.sequences;
    /* One short warm-up, so that the first repetition does not pay for untouched pages. A few hundred
     * positions reach all but the cache's, whose clearing is nothing beside the arithmetic. */
    struct speed_test warm = r->t;
    if (warm.generate > 8) warm.generate = 8;
    if (warm.prompt > 512) warm.prompt = 512;
    if (warm.depth > 512) warm.depth = 512;
    stretto_status s = speed_once(e, &warm, 1, &b->meter, &cost, &err);
    for (size_t i = 0; i < r->n && s == STRETTO_OK && !interrupted; i++) {
        s = speed_once(e, &r->t, 2 + i, &b->meter, &cost, &err);
        r->seconds[i] = cost.seconds;
        r->joules = plus(r->joules, cost.joules);
        r->card_joules = plus(r->card_joules, cost.card_joules);
    }
    if (interrupted) return command_fail("bench", STRETTO_E_CANCEL, "interrupted");
    if (s != STRETTO_OK) return command_fail("bench", s, err.text);
    if (b->o->roof) {
        s = speed_profile(e, &r->t, 2, &ignored, r->ops, MAX_OPS, &r->n_ops, &err);
        if (s == STRETTO_OK)
            s = speed_roof_macs(stretto_model_inside(b->m), r->threads, &b->roof, &err);
        if (s != STRETTO_OK) return command_fail("bench", s, err.text);
    }
    double peak = peak_rss(false), mean, deviation, ns;
    if (peak > b->peak_rss) b->peak_rss = peak;
    r->peak_rss = b->peak_rss;
    r->cache_bytes = speed_cache_bytes(e, r->t.depth + r->t.prompt + r->t.generate, r->t.sequences);
    /* The probe's own memory is not the program's. */
    double bytes = speed_step_bytes(e, r->t.depth, r->t.sequences);
    r->roof = b->roof;
    s = speed_roof_bytes(stretto_model_inside(b->m), r->threads, bytes, &r->roof, &err);
    if (s != STRETTO_OK) return command_fail("bench", s, err.text);
    peak_rss(true);
    statistics(r, &mean, &deviation, &ns);
    if (r->t.generate && r->roof.bytes > 0)
        r->roof_share = bytes * mean / r->t.sequences / r->roof.bytes;
    print_row(b, r);
    b->roof.bytes = r->roof.bytes;
    return EXIT_DONE;
}

static int run_group(struct bench *b, unsigned threads, uint32_t sequences)
{
    const struct bench_options *o = b->o;
    uint32_t most = 1;
    for (size_t d = 0; d < o->depth.n; d++) {
        for (size_t i = 0; i < o->prompt.n; i++)
            if (o->depth.v[d] + o->prompt.v[i] > most)
                most = (uint32_t)(o->depth.v[d] + o->prompt.v[i]);
        for (size_t i = 0; i < o->generate.n; i++)
            if (o->depth.v[d] + o->generate.v[i] > most)
                most = (uint32_t)(o->depth.v[d] + o->generate.v[i]);
    }
    struct model_options mo = o->model;
    mo.threads = threads;
    mo.context = most + 1;             /* the last token that is written has no row yet */
    stretto_engine_options eo;
    stretto_engine *engine;
    struct error err = { 0 };
    char words[600];
    int code = engine_options_from("bench", &mo, sequences, &eo);
    if (code != EXIT_DONE) return code;
    stretto_status s = stretto_engine_open(&engine, b->m, &eo, words, sizeof words);
    if (s != STRETTO_OK) return command_fail("bench", s, words);
    engine_cancel(stretto_engine_inside(engine), engine_flag_set, (void *)(uintptr_t)&interrupted);
    b->engine.size = sizeof b->engine;
    stretto_engine_about(engine, &b->engine);
    b->roof = (struct speed_roof){ 0 };
    if (o->roof) s = speed_roof_macs(stretto_model_inside(b->m), threads, &b->roof, &err);
    if (s != STRETTO_OK) code = command_fail("bench", s, err.text);
    static struct result r;
    for (size_t d = 0; d < o->depth.n && code == EXIT_DONE; d++) {
        for (size_t i = 0; i < o->prompt.n && code == EXIT_DONE; i++) {
            if (!o->prompt.v[i] || sequences > 1) continue;
            r = (struct result){.t = {(uint32_t)o->prompt.v[i], 0, (uint32_t)o->depth.v[d], 1},
                                .threads = b->engine.threads};
            code = run_test(b, stretto_engine_inside(engine), &r);
        }
        for (size_t i = 0; i < o->generate.n && code == EXIT_DONE; i++) {
            if (!o->generate.v[i]) continue;
            r = (struct result){
                .t = {0, (uint32_t)o->generate.v[i], (uint32_t)o->depth.v[d], sequences},
                .threads = b->engine.threads};
            code = run_test(b, stretto_engine_inside(engine), &r);
        }
    }
    stretto_engine_close(engine);
    return code;
}

/* What the column counts, or why it is missing where something counts. */
static void print_meters(const struct bench *b)
{
    const struct device *d = stretto_model_inside(b->m)->device;
    if (b->metered)
        printf("J/token: %s%s%s\n",
               b->meter.n ? "all that the CPU and its memory used meanwhile (RAPL), by whomever" : "",
               b->meter.n && d->backend->joules ? "; " : "",
               d->backend->joules ? "what the card says of itself, where it does" : "");
    else if (b->meter.why[0]) printf("no joules: %s\n", b->meter.why);
    else if (d->backend->joules) printf("no joules: the card's driver does not tell them\n");
}

static bool is_only(const struct int_list *l, int64_t v) { return l->n == 1 && l->v[0] == v; }

/* An option that would be ignored, and what it goes with; NULL: there is none. Options that say what
 * is the default anyway pass. */
static const char *stray(const struct bench_options *o, const char **with)
{
    const struct decode_options *d = &o->decode.decode;
    *with = "--decode";
    if (!d->words)
        return o->decode.prompts     ? "--prompts"
               : o->decode.costs     ? "--costs"
               : o->decode.limit     ? "--limit"
               : o->decode.pairs != 5 ? "--pairs"
               : d->draft            ? "-md"
               : d->heads            ? "--heads"
               : d->learned          ? "--learned"
               : d->most             ? "--draft-max"
               : d->window           ? "--window"
               : d->ngram            ? "--ngram"
               : d->guesses          ? "--guesses"
               : o->model.context    ? "-c"
                                     : NULL;
    *with = "tests with random tokens, not with --decode";
    if (o->mix) return "--mix";
    return !is_only(&o->prompt, 512)     ? "-p"
           : !is_only(&o->depth, 0)      ? "-d"
           : !is_only(&o->sequences, 1)  ? "-np"
           : o->roof                     ? "--roof"
           : o->generate.n > 1           ? "-n with several numbers"
           : o->threads.n > 1            ? "-t with several numbers"
           : strcmp(o->format, "csv") == 0 ? "-o csv"
           : o->repeat != 5              ? "-r"
                                         : NULL;
}

static int bench_run(void *options, size_t n, char **operands)
{
    const struct bench_options *o = options;
    const char *with, *stands = stray(o, &with);
    if (o->compare && n != 2)
        return command_usage("bench", "--compare takes two files: before.json after.json");
    if (o->compare && (stands || o->roof || o->decode.decode.words || o->model.model))
        return command_usage("bench", "--compare measures nothing: it takes two files and no other option");
    if (o->compare) return bench_compare(operands[0], operands[1]);
    if (stands) return command_usage("bench", "%s goes with %s", stands, with);
    if (o->mix && (!is_only(&o->prompt, 512) || !is_only(&o->generate, 128) || !is_only(&o->depth, 0) || o->roof
                   || o->threads.n > 1))
        return command_usage("bench", "--mix has its own prompts and answers: it goes with -np, -t, -r and -o");
    if (o->decode.decode.words && o->generate.v[0] < 1)
        return command_usage("bench", "-n, the most tokens to write, must be 1 or more");
    bool some = false;
    for (size_t i = 0; i < o->prompt.n; i++) some |= o->prompt.v[i] > 0 && is_only(&o->sequences, 1);
    for (size_t i = 0; i < o->generate.n; i++) some |= o->generate.v[i] > 0;
    if (!some) return command_usage("bench", "there is nothing to measure: -p and -n are 0");
    if (n) return command_usage("bench", "'%s' is not an option; bench takes files with --compare",
                                operands[0]);
    if (o->teach) {
        const struct teach_bench x = { o->teach, o->format, &o->prompt, &o->threads, &o->model, o->repeat };
        if (o->mix || o->decode.decode.words || !is_only(&o->generate, 128) || !is_only(&o->depth, 0))
            return command_usage("bench", "--teach goes with -p, -t, -r and -o");
        catch_interrupt();
        return bench_teach(&x);
    }
    struct bench b = { .o = o, .rows = json_array() };
    energy_open(&b.meter, getenv("STRETTO_POWERCAP")); /* for tests: a folder made up */
    catch_interrupt();
    int code = open_model("bench", &b.o->model, false, &b.m);
    if (code == EXIT_DONE) {
        b.info.size = sizeof b.info;
        stretto_model_about(b.m, &b.info);
        if (b.info.encoder)
            code = command_fail("bench", STRETTO_E_UNSUP,
                                "this model is an encoder; it writes no tokens to be timed");
    }
    if (code == EXIT_DONE && b.o->decode.decode.words) {
        struct decode_bench d = b.o->decode;
        struct model_options mo = b.o->model;
        mo.threads = b.o->threads.v[0];
        d.model = &mo;
        d.tokens = b.o->generate.v[0];
        d.format = b.o->format;
        code = bench_decode(&d, b.m);
        json_decref(b.rows);
        stretto_model_close(b.m);
        return code;
    }
    if (code == EXIT_DONE && o->mix) {
        static const struct int_list usual = { { 1, 4, 16 }, 3 };
        struct model_options mo = o->model;
        mo.threads = o->threads.v[0];
        struct mix_bench x = { is_only(&o->sequences, 1) ? &usual : &o->sequences, &mo, o->repeat, o->format,
                               b.rows };
        code = bench_mix(&x, b.m);
    }
    for (size_t t = 0; !o->mix && t < b.o->threads.n && code == EXIT_DONE; t++)
        for (size_t s = 0; s < b.o->sequences.n && code == EXIT_DONE; s++)
            code = run_group(&b, (unsigned)b.o->threads.v[t], (uint32_t)b.o->sequences.v[s]);
    if (code == EXIT_DONE && strcmp(b.o->format, "json") == 0) {
        json_dumpf(b.rows, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
    } else if (code == EXIT_DONE && strcmp(b.o->format, "md") == 0 && !o->mix) print_totals(&b);
    if (code == EXIT_DONE && strcmp(b.o->format, "md") == 0 && !o->mix && !o->roof) print_meters(&b);
    json_decref(b.rows);
    stretto_model_close(b.m);
    return code;
}

static void bench_defaults(void *options)
{
    struct bench_options *o = options;
    model_options_defaults(&o->model);
    o->model.stays = true;
    o->prompt = (struct int_list){ { 512 }, 1 };
    o->generate = (struct int_list){ { 128 }, 1 };
    o->depth = (struct int_list){ { 0 }, 1 };
    o->sequences = (struct int_list){ { 1 }, 1 };
    o->threads = (struct int_list){ { 0 }, 1 };
    o->repeat = o->decode.pairs = 5;
    o->format = "md";
}

static const struct option_group group = { "Tests", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = {{&group, 0},
                                         {&group_decode_bench,
                                          offsetof(struct bench_options, decode)},
                                         {&group_guesses,
                                          offsetof(struct bench_options, decode.decode)},
                                         {&group_model, offsetof(struct bench_options, model)}};
const struct command command_bench = {
    .name = "bench",
    .summary = "measure speed and memory",
    .operands = "[BEFORE.json AFTER.json]",
    .max_operands = 2,
    .description = "Times how fast a prompt is read (pp) and tokens are written (tg), with random tokens and an "
                   "empty cache, as "
                   "llama-bench does, with the same keys. The share of the roof is what the token "
                   "needs to read, of the "
                   "file's tensors and the cache, against the rate at which this machine can read "
                   "that many bytes. --roof gives every operation a row of its own: its time and "
                   "the part of it in which threads waited, the bytes and multiply-adds that it needs, "
                   "and the share of the roof. The roof is the larger of two times: reading those "
                   "bytes, and doing those multiply-adds with the instructions of this CPU level "
                   "from registers and the first cache. Both are measured in the same run.\n\n"
                   "--teach times steps of training: forward, backward and AdamW of all weights, or of an "
                   "adapter of rank 16 beside them; rows a second and a second of a core stand below.\n\n"
                   "Where the machine has counters of energy that can be read (RAPL; on many systems "
                   "root alone may) and where a card tells its own, there are joules per token too: of the "
                   "whole CPU and its memory, whoever else uses them, and of the card.\n\n"
                   "--compare compares two files that -o json wrote, test by test: the ratio of the "
                   "speeds with its 95 % interval, by Welch's test on the logarithms of the samples. "
                   "Exit status 1 means that something got slower beyond the noise, or that no test is "
                   "in both files; 2 means that a file cannot be read.\n\n"
                   "--decode writes every answer of --prompts with plain decoding and with each named "
                   "strategy, in rounds whose order turns; -n is the most tokens of an answer. The table "
                   "shows the tokens per step, the share of guesses that were right, the speed, the "
                   "speedup over plain decoding (the median over prompts of the median over rounds), the "
                   "worst prompt, and whether all texts were the same. Where a text differs, the command "
                   "fails. Answers that repeat themselves are reported separately.",
    .uses = uses,
    .n_uses = 4,
    .options_size = sizeof(struct bench_options),
    .defaults = bench_defaults,
    .run = bench_run,
    .unknown = peer_flag,
};
