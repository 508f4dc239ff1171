#include "serve/load.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "serve/trouble.h"
#include "stretto/experimental.h"
#include "stretto/fetch.h"
#include "stretto/open.h"
#include "text/chat.h"
#include "ui/progress.h"
#include <stdio.h>
#include <string.h>

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
    }
    buffer_done(&path);
    return code;
}

static int add_aliases(struct served *m, const char *list)
{
    for (const char *p = list ? list : ""; *p;) {
        size_t n = strcspn(p, ",");
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

int load_names(struct served_list *l, const struct serve_options *o)
{
    int code = EXIT_DONE;
    if (!o->models.n) code = add_model(l, o, NULL);
    for (size_t i = 0; i < o->models.n && code == EXIT_DONE; i++) code = add_model(l, o, o->models.v[i]);
    l->v[0].tags = o->tags;
    return code == EXIT_DONE ? add_aliases(&l->v[0], o->alias) : code;
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

static int open_text(struct served *m, const struct serve_options *o)
{
    struct model_options mo = o->model;
    mo.model = m->path;
    int code = open_model("serve", &mo, false, &m->handle);
    if (code != EXIT_DONE) return code;
    m->model = stretto_model_inside(m->handle);
    stretto_model_info i = { .size = sizeof i };
    stretto_model_about(m->handle, &i);
    m->embeds = i.encoder;
    if ((code = open_chat(m, o)) != EXIT_DONE) return code;
    if (m->chat && chat_trouble(m->chat)) {
        fprintf(stderr, "stretto serve: %s: no conversations: %s\n", m->name, chat_trouble(m->chat));
        chat_close(m->chat);
        m->chat = NULL;
    }
    return EXIT_DONE;
}

int load_model(struct served *m, const struct serve_options *o, void (*wake)(void *ud), void *ud)
{
    const uint64_t models = o->models.n ? o->models.n : 1;     /* what is for all of them is shared out */
    struct service_options so = { .goal = strcmp(o->goal, "throughput") == 0 ? GOAL_THROUGHPUT : GOAL_LATENCY,
                                  .queue = (uint32_t)o->queue, .prefix_bytes = ((uint64_t)o->cache_mb << 20) / models,
                                  .keeps = o->slots != NULL, .disk = o->disk,
                                  .disk_bytes = ((uint64_t)o->disk_mb << 20) / models, .wake = wake, .ud = ud,
                                  .log = { .say = say, .least = LOG_INFO } };
    struct error err = { 0 };
    int code = open_text(m, o);
    if (code == EXIT_DONE) code = engine_of(m, o, &so.engine);
    if (code != EXIT_DONE) return code;
    stretto_status s = decode_parse(o->decode ? o->decode : "auto", &so.choice, &err);
    if (s == STRETTO_OK) s = service_open(&m->service, m->model, &so, &err);
    if (s != STRETTO_OK) return command_fail("serve", s, err.text);
    const struct engine_info *i = service_about(m->service);
    m->context = i->context;
    m->silent = o->reasoning && strcmp(o->reasoning, "off") == 0;
    m->slots = i->sequences;
    m->since = time(NULL);
    fprintf(stderr, "stretto serve: %s: %u at once, %u tokens of context each%s\n", m->name, m->slots, m->context,
            i->context_cut ? " (less than the model's, because more does not fit in memory)" : "");
    return EXIT_DONE;
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
    return EXIT_DONE;
}

void load_close(struct served_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->v[i].service) service_close(l->v[i].service);
        chat_close(l->v[i].chat);
        stretto_model_close(l->v[i].handle);
        mem_free(l->v[i].path);
    }
}
