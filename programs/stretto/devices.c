#include "stretto/devices.h"
#include "model/model.h"
#include "stretto/experimental.h"
#include "stretto/nearest.h"
#include "stretto/output.h"
#include <stdlib.h>
#include <string.h>

/* Words of other programs for no GPU at all. */
static bool means_cpu(const char *word)
{
    return strcmp(word, "none") == 0 || strcmp(word, "CPU") == 0;
}

static int no_device(const char *command, const char *where, const char *word)
{
    char words[200], plain[300] = "auto|gpu:0|gpu";
    struct nearest near;
    device_words(words, sizeof words);
    for (size_t i = 0; backends[i]; i++) {
        size_t n = strlen(plain);
        if (backends[i]->list)
            n += (size_t)snprintf(plain + n, sizeof plain - n, "|%s:0", backends[i]->name);
        if (n < sizeof plain) snprintf(plain + n, sizeof plain - n, "|%s", backends[i]->name);
    }
    /* Who numbers the CPU means it, not a card whose name looks like it. */
    bool numbered = strncmp(word, "cpu:", 4) == 0;
    nearest_begin(&near, numbered ? "cpu" : word);
    nearest_try_list(&near, plain, '|');
    return command_usage(command, "%s takes one of %s, or several cards with commas, not '%s'%s", where, words, word,
                         nearest_words(&near));
}

/* A number, "all" or "auto", as stretto_model_options has it: 0 automatic, -1 none. */
static bool read_layers(const char *text, int32_t *out)
{
    char *end;
    *out = 0;
    if (!text || strcmp(text, "auto") == 0 || strcmp(text, "-1") == 0) return true;
    *out = INT32_MAX;
    if (strcmp(text, "all") == 0) return true;
    if (!*text || strspn(text, "0123456789") != strlen(text) || strlen(text) > 9) return false;
    long n = strtol(text, &end, 10);
    *out = n ? (int32_t)n : -1;
    return true;
}

/* Cards that are named are there, or the command ends before it fetches a model for them. */
static int cards_there(const char *command, const char *words)
{
    for (const char *p = words; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        char one[24];
        struct device_about about;
        struct error err = { .status = STRETTO_OK };
        snprintf(one, sizeof one, "%.*s", (int)strcspn(p, ","), p);
        stretto_status s = backend_find(one, &about, &err);
        if (s != STRETTO_OK) return command_fail(command, s, err.text);
    }
    return EXIT_DONE;
}

/* Integer arithmetic is a device; what does not go with it is said before a model is looked for. */
static int no_integers(const char *command, const struct model_options *o)
{
    const char *other = o->device && !means_cpu(o->device) && strcmp(o->device, "integer") ? "--device"
                      : o->gpu_layers ? "-ngl" : o->reference ? "--reference"
                      : o->type_k ? "-ctk" : o->type_v ? "-ctv" : NULL;
    if (!other) return EXIT_DONE;
    return command_usage(command, "%s does not go with --arithmetic int, which computes on the CPU, with int8 "
                         "weights and an int8 cache", other);
}

int device_from(const char *command, const struct model_options *o, const char **word, int32_t *layers)
{
    *layers = 0;
    if (o->scales && (!o->arithmetic || strcmp(o->arithmetic, "int") != 0))
        return command_usage(command, "--scales goes with --arithmetic int");
    if (o->arithmetic && strcmp(o->arithmetic, "int") == 0) {
        *word = "integer";
        return no_integers(command, o);
    }
    const char *named = getenv("STRETTO_DEVICE");
    *word = o->device ? o->device : named && *named ? named : NULL;
    if (*word && means_cpu(*word)) *word = "cpu";
    if (*word && !device_word_known(*word))
        return no_device(command, o->device ? "--device" : "STRETTO_DEVICE", *word);
    if (!read_layers(o->gpu_layers, layers))
        return command_usage(command, "-ngl takes a number of layers, all or auto, not '%s'", o->gpu_layers);
    static struct device_about found;
    if (*layers > 0 && *layers < INT32_MAX && *word && strchr(*word, ','))
        return command_usage(command, "-ngl %s goes with one card, not with %s", o->gpu_layers, *word);
    if (*layers > 0 && (!*word || strcmp(*word, backends[0]->name) == 0))
        return command_usage(command, "-ngl %s goes with --device gpu: everything runs on the CPU", o->gpu_layers);
    if (o->stays && *layers >= 0 && *word && strcmp(*word, "auto") == 0
        && backend_find(*word, &found, NULL) == STRETTO_OK)
        *word = found.word;
    bool named_card = *word && strcmp(*word, backends[0]->name) != 0 && strcmp(*word, "auto") != 0;
    return named_card && *layers >= 0 ? cards_there(command, *word) : EXIT_DONE;
}

/* ---- what there is ---------------------------------------------------------------------------- */

enum { MOST = 64 };

/* N of "gpu:N" that means the device of that word; -1: none does. */
static int number_of(const char *word)
{
    for (int n = 0; n < MOST; n++) {
        char gpu[16];
        struct device_about a;
        snprintf(gpu, sizeof gpu, "gpu:%d", n);
        if (backend_find(gpu, &a, NULL) != STRETTO_OK) return -1;
        if (strcmp(a.word, word) == 0) return n;
    }
    return -1;
}

json_t *devices_json(void)
{
    struct device_about *all = calloc(MOST, sizeof *all);
    size_t n = all ? backend_list(all, MOST) : 0;
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct device_about *a = &all[i];
        json_t *j = json_pack("{s:s,s:s,s:s,s:b,s:b}", "word", a->word, "name", a->name, "driver", a->driver,
                              "gpu", a->card, "usable", !a->unusable);
        if (!j) continue;                  /* a driver's words are no UTF-8 */
        if (a->memory) json_object_set_new(j, "memory_bytes", json_integer((json_int_t)a->memory));
        if (a->units) json_object_set_new(j, "units", json_integer(a->units));
        if (a->unusable) json_object_set_new(j, "why", json_string(a->why));
        int number = a->card && !a->unusable ? number_of(a->word) : -1;
        if (number >= 0) json_object_set_new(j, "number", json_integer(number));
        json_array_append_new(list, j);
    }
    free(all);
    return list;
}

static const char *text_of(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

static double mb(const json_t *j, const char *key)
{
    return (double)json_integer_value(json_object_get(j, key)) / 1e6;
}

void devices_print(const json_t *devices)
{
    size_t i;
    json_t *j;
    printf("%-10s %-6s %10s  %s\n", "--device", "", "memory", "what it is");
    json_array_foreach(devices, i, j) {
        char number[24] = "", memory[24] = "";
        if (json_object_get(j, "number"))
            snprintf(number, sizeof number, "gpu:%d", (int)json_integer_value(json_object_get(j, "number")));
        if (mb(j, "memory_bytes") > 0) snprintf(memory, sizeof memory, "%.0f MB", mb(j, "memory_bytes"));
        const char *name = text_of(j, "name"), *driver = text_of(j, "driver"), *why = text_of(j, "why");
        printf("%-10s %-6s %10s  ", text_of(j, "word"), number, memory);
        tame_print(stdout, name, strlen(name));
        if (*driver) {
            fputs(" (", stdout);
            tame_print(stdout, driver, strlen(driver));
            putchar(')');
        }
        if (*why) printf("%sunusable: ", *name ? "; " : "");
        tame_print(stdout, why, strlen(why));
        putchar('\n');
    }
}

/* ---- where a model is ------------------------------------------------------------------------- */

json_t *plan_json(const stretto_model *m)
{
    const struct model *x = stretto_model_inside(m);
    if (!x->shares.n) return NULL;
    json_t *list = json_array();
    for (size_t i = 0; i < x->shares.n; i++) {
        const struct split_share *s = &x->shares.share[i];
        json_array_append_new(list, json_pack("{s:s,s:s,s:I,s:I,s:b,s:I,s:I,s:I,s:I}", "device", s->device->word,
                                              "name", s->device->name, "first", (json_int_t)s->first, "layers",
                                              (json_int_t)s->layers, "head", s->head, "weight_bytes",
                                              (json_int_t)s->weights, "cache_bytes", (json_int_t)s->pages,
                                              "buffer_bytes", (json_int_t)s->buffers, "memory_bytes",
                                              (json_int_t)s->memory));
    }
    return list;
}

void plan_print(FILE *out, const char *before, const json_t *plan)
{
    size_t i;
    json_t *j;
    json_array_foreach(plan, i, j) {
        const char *name = text_of(j, "name");
        long long first = json_integer_value(json_object_get(j, "first"));
        long long n = json_integer_value(json_object_get(j, "layers"));
        fprintf(out, "%s%s", before, text_of(j, "device"));
        if (*name) fprintf(out, " (%s)", name);
        bool head = json_is_true(json_object_get(j, "head"));
        if (n == 1) fprintf(out, " has layer %lld%s", first, head ? " and the head" : "");
        else if (n) fprintf(out, " has layers %lld to %lld%s", first, first + n - 1, head ? " and the head" : "");
        else fprintf(out, " has %s", head ? "the head" : "no layer");
        fprintf(out, ": %.1f MB of weights, %.1f MB of cache, %.1f MB of buffers", mb(j, "weight_bytes"),
                mb(j, "cache_bytes"), mb(j, "buffer_bytes"));
        if (mb(j, "memory_bytes") > 0) fprintf(out, " of %.0f MB", mb(j, "memory_bytes"));
        fputc('\n', out);
    }
}
