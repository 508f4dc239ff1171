#include "serve/load.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "serve/trouble.h"
#include "stretto/experimental.h"
#include "stretto/fetch.h"
#include "stretto/open.h"
#include "text/chat.h"
#include "ui/progress.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names ------------------------------------------------------------------------------------- */

/* "name=path": the '=' stands before anything that a path has. */
static const char *split_name(const char *word, char name[SERVED_NAME])
{
    size_t n = strcspn(word, "=/\\");
    *name = '\0';
    if (word[n] != '=' || !n || n >= SERVED_NAME) return word;
    snprintf(name, SERVED_NAME, "%.*s", (int)n, word);
    return word + n + 1;
}

/* The file's name without its ending, or the folder's. */
static void name_from(const char *path, char name[SERVED_NAME])
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t from = n;
    while (from && path[from - 1] != '/') from--;
    if (n - from > 5 && strncmp(path + n - 5, ".gguf", 5) == 0) n -= 5;
    snprintf(name, SERVED_NAME, "%.*s", (int)(n - from < SERVED_NAME - 1 ? n - from : SERVED_NAME - 1), path + from);
    text_line(name);
}

/* One file under two names is one model: its weights, its cache and its files on disk are there once. */
static int same_file(struct served_list *l, struct served *m)
{
    struct stat a, b;
    if (stat(m->path, &a) != 0) return EXIT_DONE;
    for (struct served *first = l->v; first < m; first++) {
        if (stat(first->path, &b) != 0 || a.st_dev != b.st_dev || a.st_ino != b.st_ino) continue;
        if (first->n_aliases == SERVED_ALIASES)
            return command_usage("serve", "the model %s has more than %d names", first->name, (int)SERVED_ALIASES);
        snprintf(first->alias[first->n_aliases++], SERVED_NAME, "%s", m->name);
        fprintf(stderr, "stretto serve: %s is another name of %s: the same file\n", m->name, first->name);
        mem_free(m->path);
        *m = (struct served){ .path = NULL };
        l->n--;
        break;
    }
    return EXIT_DONE;
}

static int add_model(struct served_list *l, const struct serve_options *o, const char *word)
{
    struct buffer path = buffer_make(1 << 16);
    struct served *m = &l->v[l->n];
    char name[SERVED_NAME];
    const char *model = word ? split_name(word, name) : NULL;
    int code = model_path("serve", model, o->model.yes, &path);
    if (code == EXIT_DONE && !(m->path = mem_strdup(path.data))) code = command_fail("serve", STRETTO_E_NOMEM, NULL);
    if (code == EXIT_DONE) {
        if (word && *name) {
            snprintf(m->name, sizeof m->name, "%s", name);
            text_line(m->name);
        }
        else name_from(path.data, m->name);
        for (size_t i = 0; i < l->n && code == EXIT_DONE; i++)
            if (strcmp(l->v[i].name, m->name) == 0)
                code = command_usage("serve", "two models are called %s: give them names, as in -m NAME=MODEL",
                                     m->name);
        l->n++;
        if (code == EXIT_DONE) code = same_file(l, m);
    }
    buffer_done(&path);
    return code;
}

/* Of the first model. */
static int add_aliases(struct served_list *l, const char *list)
{
    struct served *m = &l->v[0];
    for (const char *p = list ? list : ""; *p;) {
        size_t n = strcspn(p, ",");
        const struct served *has = n ? served_named(l, p, n) : NULL;
        if (has && has != m)
            return command_usage("serve", "two models are called %s: give the first one another --alias", has->name);
        if (n >= SERVED_NAME || m->n_aliases == SERVED_ALIASES)
            return command_usage("serve", "--alias takes at most %d names of %d bytes", (int)SERVED_ALIASES,
                                 (int)SERVED_NAME - 1);
        if (n) {
            snprintf(m->alias[m->n_aliases], SERVED_NAME, "%.*s", (int)n, p);
            text_line(m->alias[m->n_aliases++]);
        }
        p += n + (p[n] == ',');
    }
    return EXIT_DONE;
}

/* ---- adapters ---------------------------------------------------------------------------------- */

/* Rows of adapters are picked by the cpu alone. */
static bool can_choose(const struct serve_options *o)
{
    const char *named = getenv("STRETTO_DEVICE"), *device = o->model.device ? o->model.device : named && *named ? named
                                                                                                             : "cpu";
    return strcmp(device, "cpu") == 0 && !(o->model.arithmetic && strcmp(o->model.arithmetic, "int") == 0);
}

static int add_to(struct served *m, const char *name, const char *path, float scale, const struct serve_options *o)
{
    struct served_adapter *a = &m->adapter[m->n_adapters];
    for (size_t i = 0; i < m->n_adapters; i++)
        if (*name && strcmp(m->adapter[i].name, name) == 0)
            return command_usage("serve", "two adapters are called %s: give them names of their own", name);
    if (m->n_adapters == SERVED_ADAPTERS)
        return command_usage("serve", "more than %d adapters of one model", (int)SERVED_ADAPTERS);
    snprintf(a->name, sizeof a->name, "%s", name);
    a->scale = scale;
    a->weight = *name || o->lora_later ? 0 : scale;
    a->path = mem_strdup(path);
    size_t n = strlen(path) + 32;
    a->word = mem_alloc(n);
    if (!a->path || !a->word) return command_fail("serve", STRETTO_E_NOMEM, NULL);
    snprintf(a->word, n, "%s=%.9g", path, (double)scale);
    m->n_adapters++;
    return EXIT_DONE;
}

/* "NAME=FILE", "MODEL:NAME=FILE": of the model that is served, or the one that is named. */
static int add_named(struct served_list *l, const struct serve_options *o, char *name, const char *path, float scale)
{
    char *colon = strrchr(name, ':');
    int ignored;
    const struct served *m = l->n == 1 ? &l->v[0] : NULL;
    if (colon) {
        *colon = '\0';
        m = served_find(l, name, strlen(name), &ignored);
        if (l->n == 1 && m && strcmp(m->name, name) != 0) m = NULL;
        if (!m) return command_usage("serve", "--lora: there is no model called %s", name);
    }
    const char *own = colon ? colon + 1 : name;
    if (!m)
        return command_usage("serve", "which model is the adapter %s for? Say --lora MODEL:%s=%s", own, own, path);
    if (!*own || strcmp(own, "latest") == 0) return command_usage("serve", "an adapter cannot be called '%s'", own);
    return add_to(&l->v[m - l->v], own, path, scale, o);
}

static int add_adapter(struct served_list *l, const struct serve_options *o, const char *word)
{
    char name[SERVED_NAME] = "", path[4096];
    float scale;
    const char *rest = access(word, F_OK) == 0 ? word : split_name(word, name);
    enum adapter_word named = rest != word ? adapter_word(rest, path, &scale) : ADAPTER_WORD_NO_FILE, plain;
    text_line(name);
    if (named == ADAPTER_WORD_GOOD) return add_named(l, o, name, path, scale);
    plain = adapter_word(word, path, &scale);
    if (named == ADAPTER_WORD_NO_SCALE || plain == ADAPTER_WORD_NO_SCALE) return adapter_word_usage("serve", word);
    if (plain != ADAPTER_WORD_GOOD)
        return command_usage("serve", "--lora: there is no file %s; an adapter is FILE, FILE=SCALE or "
                             "NAME=FILE[=SCALE]", rest);
    for (size_t i = 0; i < l->n; i++) {
        int code = add_to(&l->v[i], "", path, scale, o);
        if (code != EXIT_DONE) return code;
    }
    return EXIT_DONE;
}

/* Nobody chooses: they act on all requests. */
static void fix(struct served *m)
{
    m->n_fixed = m->n_adapters;
    m->n_adapters = 0;
}

/* What their files say of themselves. One that brings phrases is always there, for the vocabulary is everybody's. */
static int look_into(struct served *m, bool later)
{
    for (size_t i = 0; i < m->n_adapters; i++) {
        struct error err = { 0 };
        bool phrases;
        stretto_status s = model_adapter_look(m->adapter[i].path, &phrases, &m->adapter[i].rows, &err);
        if (s != STRETTO_OK) return command_fail("serve", s, err.text);
        if (!phrases) continue;
        if (m->n_adapters > 1 || *m->adapter[i].name || later)
            return command_usage("serve", "%s brings phrases along, which become the vocabulary of all requests: it "
                                 "cannot be chosen, so give it alone and without a name, as --lora %s",
                                 m->adapter[i].path, m->adapter[i].path);
        fix(m);
    }
    return EXIT_DONE;
}

/* "MODEL:NAME" is the adapter's, whatever models are called; "NAME" alone is a model's where one is called so. */
static int check_names(const struct served_list *l)
{
    char full[SERVED_SHOWN];
    for (size_t i = 0; i < l->n; i++)
        for (size_t k = 0; k < l->v[i].n_adapters; k++) {
            const struct served *m = &l->v[i];
            const char *name = m->adapter[k].name;
            if (!*name) continue;
            for (size_t at = 0; at <= m->n_aliases; at++) {
                snprintf(full, sizeof full, "%s:%s", at ? m->alias[at - 1] : m->name, name);
                if (served_named(l, full, strlen(full)))
                    return command_usage("serve", "a model and an adapter are both called %s: give one of them another "
                                         "name", full);
            }
            if (served_named(l, name, strlen(name)))
                fprintf(stderr, "stretto serve: %s is a model's name and an adapter's: alone it is the model, and the "
                        "adapter is %s:%s\n", name, m->name, name);
        }
    return EXIT_DONE;
}

static int add_adapters(struct served_list *l, const struct serve_options *o)
{
    int code = EXIT_DONE;
    bool named = o->lora_later;
    for (size_t i = 0; i < o->model.adapters.n && code == EXIT_DONE; i++)
        code = add_adapter(l, o, o->model.adapters.v[i]);
    for (size_t i = 0; i < l->n; i++)
        for (size_t k = 0; k < l->v[i].n_adapters; k++) named |= *l->v[i].adapter[k].name != '\0';
    for (size_t i = 0; i < l->n && code == EXIT_DONE; i++) code = look_into(&l->v[i], o->lora_later);
    if (code == EXIT_DONE) code = check_names(l);
    if (code != EXIT_DONE || can_choose(o)) return code;
    if (named)
        return command_usage("serve", "adapters are chosen by requests on the cpu alone: give --lora FILE[=SCALE], "
                             "which acts on all");
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].n_adapters) fix(&l->v[i]);
    return EXIT_DONE;
}

int load_names(struct served_list *l, const struct serve_options *o)
{
    int code = EXIT_DONE;
    if (!o->models.n) code = add_model(l, o, NULL);
    for (size_t i = 0; i < o->models.n && code == EXIT_DONE; i++) code = add_model(l, o, o->models.v[i]);
    l->v[0].tags = o->tags;
    if (code == EXIT_DONE && o->draft) {
        struct buffer path = buffer_make(1 << 16);
        code = model_path("serve", o->draft, o->model.yes, &path);
        if (code == EXIT_DONE && !(l->draft_path = mem_strdup(path.data)))
            code = command_fail("serve", STRETTO_E_NOMEM, NULL);
        buffer_done(&path);
    }
    if (code == EXIT_DONE) code = add_aliases(l, o->alias);
    return code == EXIT_DONE ? add_adapters(l, o) : code;
}

/* ---- opening ----------------------------------------------------------------------------------- */

static void say(void *ud, enum log_level level, const char *text)
{
    (void)ud; (void)level;
    fprintf(stderr, "stretto serve: %s\n", text);
}

/* -c is for all models; one that cannot have as much has what it can. */
static int engine_of(const struct served *m, const struct serve_options *o, struct engine_options *e)
{
    const char *cache;
    *e = (struct engine_options){ .threads = (unsigned)o->model.threads, .context = (uint32_t)o->model.context,
                                  .sequences = (uint32_t)o->parallel, .pool_tokens = (uint32_t)o->pool,
                                  .strict = o->model.strict,
                                  .max_rows = (uint32_t)o->batch,
                                  .cache = o->model.reference ? CACHE_F32 : CACHE_F16 };
    uint32_t most = m->model->config.context;
    if (m->embeds && most && e->context > most) e->context = most;
    int code = cache_from("serve", &o->model, &cache);
    if (code == EXIT_DONE && cache && !cache_type_by_name(cache, &e->cache))
        code = command_usage("serve", "there is no type of cache called %s", cache);
    return code;
}

/* The conversation's template: the model's own, or what the command line has. */
static int open_chat(struct served *m, const struct serve_options *o)
{
    const struct tokenizer *t = m->model->tokenizer;
    struct error err = { 0 };
    struct file_map file = { 0 };
    const char *text = o->chat_template;
    size_t n = text ? strlen(text) : 0;
    stretto_status s = STRETTO_OK;
    if (o->chat_template_file && (s = file_map_open(&file, o->chat_template_file, &err)) == STRETTO_OK) {
        text = (const char *)file.data;
        n = file.size;
    }
    if (s == STRETTO_OK) s = text && t ? chat_open_text(&m->chat, t, text, n, &err) : chat_open(&m->chat, t, &err);
    file_map_close(&file);
    return s == STRETTO_OK ? EXIT_DONE : command_fail("serve", s, err.text);
}

static void tell_about(struct served *m)
{
    const struct config *c = &m->model->config;
    stretto_model_info *i = &m->about;
    i->size = sizeof *i;
    if (m->handle) stretto_model_about(m->handle, i);
    i->layers = c->layers;
    i->width = c->width;
    i->vocabulary = c->vocab;
    i->context = c->context;
    m->embeds = m->model->graph.logits == GRAPH_NONE;
    i->encoder = m->embeds;
    m->type = dtype_table[source_main_type(m->model->source)].name;
    if (m->handle) return;
    i->file_bytes = m->model->tensor_bytes;
    snprintf(i->family, sizeof i->family, "%s", source_arch(m->model->source));
    snprintf(i->format, sizeof i->format, "%s", source_format(m->model->source));
    for (size_t t = 0; t < source_tensor_count(m->model->source); t++)
        i->parameters += source_elements(source_tensor_at(m->model->source, t));
}

/* What texts need. */
static int open_words(struct served *m, const struct serve_options *o)
{
    tell_about(m);
    int code = open_chat(m, o);
    m->silent = o->reasoning && strcmp(o->reasoning, "off") == 0;
    m->since = time(NULL);
    if (code != EXIT_DONE || !m->chat || !chat_trouble(m->chat)) return code;
    fprintf(stderr, "stretto serve: %s: no conversations: %s\n", m->name, chat_trouble(m->chat));
    chat_close(m->chat);
    m->chat = NULL;
    return EXIT_DONE;
}

static int open_weights(struct served *m, const struct serve_options *o)
{
    struct model_options mo = o->model;
    mo.model = m->path;
    mo.adapters = (struct text_list){ .n = 0 };
    for (size_t i = 0; i < m->n_fixed; i++) mo.adapters.v[mo.adapters.n++] = m->adapter[i].word;
    for (size_t i = 0; i < m->n_adapters; i++) mo.chosen.v[mo.chosen.n++] = m->adapter[i].word;
    return open_model("serve", &mo, false, &m->handle);
}

static int open_text(struct served *m, const struct serve_options *o)
{
    int code = open_weights(m, o);
    if (code != EXIT_DONE) return code;
    m->model = stretto_model_inside(m->handle);
    return open_words(m, o);
}

/* All but the weights, which come and go. */
static int open_light(struct served *m, const struct serve_options *o)
{
    struct model_adapter fixed[SERVED_ADAPTERS];
    const struct model_open_options mo = { .graph_only = true, .adapters = fixed, .n_adapters = m->n_fixed };
    struct error err = { 0 };
    for (size_t i = 0; i < m->n_fixed; i++)
        fixed[i] = (struct model_adapter){ .path = m->adapter[i].path, .scale = m->adapter[i].scale };
    stretto_status s = model_open(&m->light, m->path, &mo, &err);
    if (s != STRETTO_OK) return command_fail("serve", s, err.text);
    m->model = m->light;
    m->slots = (uint32_t)o->parallel;
    m->context = o->model.context ? (uint32_t)o->model.context : m->model->config.context;
    return open_words(m, o);
}

static bool comes_and_goes(const struct served_list *l) { return (l->most && l->most < l->n) || l->sleep > 0; }

/* Models whose weights are here together. */
static uint32_t at_once(const struct served_list *l) { return l->most && l->most < l->n ? l->most : (uint32_t)l->n; }

static int open_service(struct served *m, const struct serve_options *o, const struct served_list *l,
                        void (*wake)(void *ud), void *ud, struct service **out)
{
    const uint32_t models = at_once(l);        /* what is for all of them is shared out */
    struct service_options so = { .goal = strcmp(o->goal, "throughput") == 0 ? GOAL_THROUGHPUT : GOAL_LATENCY,
                                  .queue = (uint32_t)o->queue, .prefix_bytes = ((uint64_t)o->cache_mb << 20) / models,
                                  .keeps = o->slots != NULL, .disk = o->disk,
                                  .disk_bytes = ((uint64_t)o->disk_mb << 20) / models, .wake = wake, .ud = ud,
                                  .log = { .say = say, .least = LOG_INFO } };
    struct error err = { 0 };
    const struct model *model = stretto_model_inside(m->handle);
    int code = engine_of(m, o, &so.engine);
    if (code != EXIT_DONE) return code;
    stretto_status s = decode_parse(o->decode ? o->decode : "auto", &so.choice, &err);
    const struct model_adapter *gated = model_gated(model);
    if (s == STRETTO_OK && gated && !so.choice.automatic && !(so.choice.strategies & strategy_bit("gated")))
        return command_usage("serve", "%s acts on guesses alone, and goes with --decode auto or gated, not with "
                             "--decode %s", gated->path, o->decode);
    if (l->draft) so.draft = stretto_model_inside(l->draft);
    so.heads = o->heads;
    if (s == STRETTO_OK) s = service_open(out, model, &so, &err);
    /* Two files of the same model have the same pages, and one folder holds them for one of the two. */
    if (s == STRETTO_E_IO && o->disk && o->models.n > 1) {
        fprintf(stderr, "stretto serve: %s: nothing is kept on disk: %s\n", m->name, err.text);
        error_clear(&err);
        so.disk = NULL;
        s = service_open(out, model, &so, &err);
    }
    if (s != STRETTO_OK) return command_fail("serve", s, err.text);
    const struct engine_info *i = service_about(*out);
    m->context = i->context;
    m->slots = i->sequences;
    fprintf(stderr, "stretto serve: %s: %u at once, %u tokens of context each%s\n", m->name, m->slots, m->context,
            i->context_cut ? " (less than the model's, because more does not fit in memory)" : "");
    return EXIT_DONE;
}

/* ---- weights that come and go ------------------------------------------------------------------ */

/* The weights and the service; the model is LOADING, so nobody looks. */
static int bring(struct served_list *l, struct served *m, const struct serve_options *o, void (*wake)(void *ud),
                 void *ud)
{
    struct service *s = NULL;
    int code = m->handle ? EXIT_DONE : open_weights(m, o);
    if (code == EXIT_DONE) code = open_service(m, o, l, wake, ud, &s);
    if (code != EXIT_DONE && m->light) {
        stretto_model_close(m->handle);
        m->handle = NULL;
    }
    pthread_mutex_lock(&l->lock);
    m->service = s;
    m->at = s ? SERVED_HERE : SERVED_AWAY;
    m->asked = 0;
    m->used = clock_seconds();
    m->failures += !s;
    l->loads += s != NULL;
    if (s && l->closing) service_drain(s);
    pthread_mutex_unlock(&l->lock);
    return code;
}

/* Under lock, which is free meanwhile: nobody uses it. */
static void take_away(struct served_list *l, struct served *m)
{
    struct service *s = m->service;
    stretto_model *handle = m->handle;
    service_look(s, &m->last, NULL, 0);
    m->service = NULL;
    m->handle = NULL;
    m->at = SERVED_LOADING;            /* so that nobody sends for it while it goes */
    l->releases++;
    pthread_mutex_unlock(&l->lock);
    service_close(s);
    stretto_model_close(handle);
    fprintf(stderr, "stretto serve: %s is put aside until it is asked for\n", m->name);
    pthread_mutex_lock(&l->lock);
    m->at = m->asked > 0 ? SERVED_WANTED : SERVED_AWAY;
}

static uint32_t count_here(const struct served_list *l)
{
    uint32_t n = 0;
    for (size_t i = 0; i < l->n; i++) n += l->v[i].service != NULL;
    return n;
}

/* Who was asked for first. */
static struct served *next_wanted(struct served_list *l)
{
    struct served *first = NULL;
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].at == SERVED_WANTED && (!first || l->v[i].asked < first->asked)) first = &l->v[i];
    return first;
}

/* Who gives up its place: of those that nobody uses the one that was used longest ago. Where all are used, one gets no
 * new requests any more, and that is it once its last one has ended. */
static struct served *who_goes(struct served_list *l)
{
    struct served *idle = NULL, *busy = NULL, *leaving = NULL;
    for (size_t i = 0; i < l->n; i++) {
        struct served *m = &l->v[i];
        if (!m->service) continue;
        if (m->at == SERVED_LEAVING) leaving = m;
        if (!m->uses && (!idle || m->used < idle->used)) idle = m;
        if (!busy || m->used < busy->used) busy = m;
    }
    if (idle || leaving || !busy) return idle;
    busy->at = SERVED_LEAVING;
    return NULL;
}

/* Nobody is asked for in its stead any more. */
static void stay(struct served_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].at == SERVED_LEAVING) {
            l->v[i].at = SERVED_HERE;
            l->v[i].asked = 0;
        }
}

static struct served *who_sleeps(struct served_list *l, double now)
{
    for (size_t i = 0; l->sleep > 0 && i < l->n; i++)
        if (l->v[i].service && !l->v[i].uses && now - l->v[i].used >= l->sleep) return &l->v[i];
    return NULL;
}

static void wait_a_while(struct served_list *l)
{
    double when = clock_seconds() + (l->sleep > 0 ? 0.25 : 60);
    struct timespec t = { (time_t)when, (long)((when - (double)(time_t)when) * 1e9) };
    pthread_cond_timedwait(&l->wanted, &l->lock, &t);
}

void load_on_demand(struct served_list *l, const struct serve_options *o, void (*wake)(void *ud), void *ud)
{
    if (!comes_and_goes(l)) return;
    pthread_mutex_lock(&l->lock);
    while (!l->closing) {
        struct served *m = next_wanted(l), *goes = NULL;
        if (!m && (goes = who_sleeps(l, clock_seconds()))) {
            take_away(l, goes);
            continue;
        }
        if (m && count_here(l) >= at_once(l)) {
            if ((goes = who_goes(l))) take_away(l, goes);
            else wait_a_while(l);
            continue;
        }
        if (!m) {
            stay(l);
            wait_a_while(l);
            continue;
        }
        m->at = SERVED_LOADING;
        stay(l);
        pthread_mutex_unlock(&l->lock);
        bring(l, m, o, wake, ud);
        wake(ud);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
}

static int open_draft(struct served_list *l, const struct serve_options *o)
{
    struct model_options mo = o->model;
    if (!l->draft_path) return EXIT_DONE;
    mo.model = l->draft_path;
    mo.scales = NULL;
    mo.adapters.n = 0;
    return open_model("serve", &mo, false, &l->draft);
}

int load_all(struct served_list *l, const struct serve_options *o, void (*wake)(void *ud), void *ud)
{
    l->most = (uint32_t)o->models_max;
    l->sleep = o->sleep;
    bool light = comes_and_goes(l);
    int code = open_draft(l, o);
    for (size_t i = 0; i < l->n && code == EXIT_DONE; i++) {
        code = light ? open_light(&l->v[i], o) : open_text(&l->v[i], o);
        if (code == EXIT_DONE && i < at_once(l)) code = bring(l, &l->v[i], o, wake, ud);
    }
    return code;
}

int load_check(struct served *m, const struct serve_options *o)
{
    struct engine_options e;
    struct engine_info i;
    struct error err = { 0 };
    char weights[32], buffers[32], pages[32];
    int code = open_text(m, o);
    if (code == EXIT_DONE) code = engine_of(m, o, &e);
    if (code != EXIT_DONE) return code;
    stretto_status s = engine_plan(m->model, &e, &i, &err);
    if (s != STRETTO_OK) return command_fail("serve", s, err.text);
    printf("model %s: %s\n  %s of weights, %s of buffers, up to %s of cache; %u requests at once, %u tokens of context "
           "each%s; %s\n", m->name, m->path, ui_bytes(weights, sizeof weights, i.weights),
           ui_bytes(buffers, sizeof buffers, i.buffers), ui_bytes(pages, sizeof pages, i.pages), i.sequences, i.context,
           i.context_cut ? " (cut to what fits)" : "", m->embeds ? "makes embeddings" : m->chat
           ? "holds conversations" : "continues texts, has no template for conversations");
    for (size_t k = 0; k < m->n_adapters; k++)
        printf("  adapter %s: %s\n", *m->adapter[k].name ? m->adapter[k].name : "for all", m->adapter[k].path);
    return EXIT_DONE;
}

int load_check_guessers(struct served_list *l, const struct serve_options *o)
{
    char words[1300];
    int code = open_draft(l, o);
    if (code == EXIT_DONE && l->draft_path) printf("guesses: the model %s\n", l->draft_path);
    if (code != EXIT_DONE || !o->heads) return code;
    if (access(o->heads, R_OK) != 0) {
        snprintf(words, sizeof words, "--heads %.1000s: %s", o->heads, strerror(errno));
        return command_fail("serve", STRETTO_E_IO, words);
    }
    printf("guesses: the heads %s\n", o->heads);
    return EXIT_DONE;
}

void load_close(struct served_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->v[i].service) service_close(l->v[i].service);
        chat_close(l->v[i].chat);
        stretto_model_close(l->v[i].handle);
        model_close(l->v[i].light);
        mem_free(l->v[i].path);
        for (size_t k = 0; k < l->v[i].n_adapters + l->v[i].n_fixed; k++) {
            mem_free(l->v[i].adapter[k].path);
            mem_free(l->v[i].adapter[k].word);
        }
    }
    stretto_model_close(l->draft);
    mem_free(l->draft_path);
}
