/* stretto info: what a model is, what this machine offers, which kernels were chosen, and what each
 * operation of the graph costs. */
#include "cluster/team.h"
#include "format/families.h"
#include "graph/graph.h"
#include "kernels/kernels.h"
#include "model/family.h"
#include "model/model.h"
#include "stretto/commands.h"
#include "stretto/devices.h"
#include "stretto/experimental.h"
#include "stretto/machine.h"
#include "stretto/open.h"
#include "stretto/peer_flags.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct info_options {
    struct model_options model;
    int64_t rows;
    bool graph, json, machine, families, devices;
};

#define AT(field) offsetof(struct info_options, field)
static const struct option rows[] = {
    {"--graph", NULL, OPT_FLAG, AT(graph), 0, 0, "list the operations of the graph and what each costs"},
    {"--rows", "N", OPT_INT, AT(rows), 1, 1 << 20, "--graph: count a step of this many rows [1]"},
    {"--machine", NULL, OPT_FLAG, AT(machine), 0, 0, "show only the machine; needs no model"},
    {"--families", NULL, OPT_FLAG, AT(families), 0, 0,
     "show only the families of models that run, by their names in GGUF files and in config.json"},
    {"--devices", NULL, OPT_FLAG, AT(devices), 0, 0,
     "show only the devices that --device may name, and why others cannot be used"},
    {"--json", NULL, OPT_FLAG, AT(json), 0, 0, "print one JSON value"},
};
#undef AT

/* A word in STRETTO_CPU that is no level must not pass for none at all. */
static int check_level(void)
{
    uint32_t bits;
    char all[300] = "";
    const char *level = getenv("STRETTO_CPU");
    if (!level || !*level || cpu_ceiling(level, &bits)) return EXIT_DONE;
    for (const char *const *l = kernels_levels(); *l; l++) {
        size_t n = strlen(all);
        snprintf(all + n, sizeof all - n, "%s%s", n ? "|" : "", *l);
    }
    return command_odd("info", "level for STRETTO_CPU called", level, all);
}

static json_t *machine(void)
{
    static struct kernels k;
    uint32_t cpu = cpu_detect(), bits, ceiling = UINT32_MAX;
    const char *level = getenv("STRETTO_CPU"), *why;
    if (level && *level) cpu_ceiling(level, &ceiling);
    kernels_init(&k, cpu & ceiling);
    json_t *have = json_array(), *all = json_array();
    for (const char *const *l = kernels_levels(); *l; l++) {
        json_array_append_new(all, json_string(*l));
        if (cpu_ceiling(*l, &bits) && !(bits & ~cpu)) json_array_append_new(have, json_string(*l));
    }
    unsigned threads = team_cpus(&why);
    return json_pack("{s:s,s:o,s:o,s:i,s:s}", "level", k.level, "levels_here", have, "levels_built",
                     all, "threads", (int)threads, "threads_why", why);
}

static json_t *describe(const stretto_model *m)
{
    stretto_model_info i = { .size = sizeof i };
    stretto_model_about(m, &i);
    const struct model *x = stretto_model_inside(m);
    char kernels[2048] = "";
    x->device->backend->describe(x->weights, kernels, sizeof kernels);
    json_t *types = json_object();
    for (size_t t = 0; t < source_tensor_count(x->source); t++) {
        const char *name = dtype_table[source_tensor_at(x->source, t)->type].name;
        json_object_set_new(types, name,
                            json_integer(json_integer_value(json_object_get(types, name)) + 1));
    }
    json_t *j = json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:I}", "file", source_path(x->source), "format",
                          i.format, "family", i.family, "tokenizer", i.tokenizer, "parameters",
                          (json_int_t)i.parameters, "tensor_bytes", (json_int_t)i.file_bytes,
                          "weight_bytes", (json_int_t)i.weight_bytes);
    json_object_update_new(
        j, json_pack("{s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:b,s:b}", "layers", (int)i.layers, "width",
                     (int)i.width, "heads", (int)i.heads, "kv_heads", (int)i.kv_heads, "head_dim",
                     (int)i.head_dim, "feed", (int)i.feed, "vocabulary", (int)i.vocabulary,
                     "context", (int)i.context, "encoder", i.encoder, "chat_template", i.chat));
    if (i.encoder) json_object_set_new(j, "pooling", json_string(i.pooling[0] ? i.pooling : "not supported"));
    json_object_set_new(j, "tensors", types);
    json_object_set_new(j, "device", json_string(i.device));
    json_t *plan = plan_json(m);
    if (plan) json_object_set_new(j, "plan", plan);
    json_object_set_new(j, "kernels", json_string(kernels));
    return j;
}

static const char *weight_name(const struct graph *g, const struct graph_node *n)
{
    int32_t weight = node_param(g, n, 0);
    return weight == GRAPH_NONE ? "" : g->params[weight].name;
}

static json_t *graph_json(const struct graph *g, double n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *x = &g->nodes[i];
        struct graph_cost c = graph_node_cost(g, i, n, 1, n);
        json_array_append_new(
            list, json_pack("{s:s,s:i,s:i,s:s,s:f,s:f,s:f,s:f}", "op", op_table[x->op].name,
                            "layer", (int)x->layer, "width", (int)g->values[x->out].width, "weight",
                            weight_name(g, x), "flops",
                            c.flops, "parameters", c.param_elements, "cache_elements",
                            c.cache_elements, "activation_bytes", c.activation_bytes));
    }
    return list;
}

/* [{"name": "llama", "title": "Llama ...", "model_types": ["llama", "mistral"]}, ...] */
static json_t *families(void)
{
    const struct family *f;
    json_t *all = json_array();
    for (size_t i = 0; (f = family_at(i)); i++) {
        json_t *types = json_array();
        const char *arch, *type;
        for (size_t k = 0; (type = format_model_type(k, &arch)); k++)
            if (strcmp(arch, f->name) == 0) json_array_append_new(types, json_string(type));
        json_array_append_new(all, json_pack("{s:s,s:s,s:o}", "name", f->name, "title", f->title,
                                             "model_types", types));
    }
    return all;
}

static int print_families(bool as_json)
{
    json_t *all = families(), *one, *type;
    size_t i, k;
    if (as_json) {
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        printf("%-16s %-30s %s\n", "GGUF", "models", "model_type of config.json");
        json_array_foreach(all, i, one) {
            printf("%-16s %-30s", json_string_value(json_object_get(one, "name")),
                   json_string_value(json_object_get(one, "title")));
            json_array_foreach(json_object_get(one, "model_types"), k, type)
                printf("%s %s", k ? "," : "", json_string_value(type));
            putchar('\n');
        }
    }
    json_decref(all);
    return EXIT_DONE;
}

static int print_devices(bool as_json)
{
    json_t *all = devices_json();
    if (as_json) {
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
    } else devices_print(all);
    json_decref(all);
    return EXIT_DONE;
}

/* Operations of the layers are added up by kind and weight; the rest is listed one by one. */
static void print_graph(const struct graph *g, double n)
{
    printf("\n%-5s %-10s %-34s %8s %14s %14s %12s\n", "layer", "operation", "weight", "width",
           "flops", "parameters", "bytes");
    double flops = 0, parameters = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *x = &g->nodes[i];
        struct graph_cost c = graph_node_cost(g, i, n, 1, n);
        flops += c.flops;
        parameters += c.param_elements;
        if (x->layer > 0 && (uint32_t)x->layer + 1 < g->layers)
            continue; /* the first and the last stand for all */
        char layer[16] = "";
        if (x->layer >= 0) snprintf(layer, sizeof layer, "%d", x->layer);
        printf("%-5s %-10s %-34s %8u %14.0f %14.0f %12.0f\n", layer, op_table[x->op].name,
               weight_name(g, x),
               g->values[x->out].width, c.flops, c.param_elements, c.activation_bytes);
    }
    printf("%zu operations; a step of %.0f row%s: %.4g operations on %.4g parameters (layers "
           "between the first and the "
           "last are counted, not listed)\n",
           g->n_nodes, n, n > 1 ? "s" : "", flops, parameters);
}

/* The cache's layer groups, and what each would take with the whole context of every session. */
static json_t *cache_groups(const stretto_engine_info *e)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < e->n_groups; i++) {
        const stretto_cache_group *g = &e->groups[i];
        json_array_append_new(list, json_pack("{s:s,s:i,s:i,s:I,s:I,s:I}", "kind", g->kind, "layers",
                                              (int)g->layers, "window", (int)g->window, "token_bytes",
                                              (json_int_t)g->token_bytes, "bytes", (json_int_t)g->bytes,
                                              "whole_bytes",
                                              (json_int_t)(g->token_bytes * e->pool_tokens)));
    }
    return list;
}

static void print_groups(const json_t *list)
{
    size_t i;
    json_t *g;
    json_array_foreach(list, i, g) {
        json_int_t layers = json_integer_value(json_object_get(g, "layers"));
        json_int_t window = json_integer_value(json_object_get(g, "window"));
        json_int_t token = json_integer_value(json_object_get(g, "token_bytes"));
        double mb = (double)json_integer_value(json_object_get(g, "bytes")) / 1e6;
        double whole = (double)json_integer_value(json_object_get(g, "whole_bytes")) / 1e6;
        printf("%-16s %lld layer%s, %lld bytes a token, %.1f MB", i ? "" : "cache", (long long)layers,
               layers > 1 ? "s" : "", (long long)token, mb);
        if (window) printf(": a window of %lld tokens (%.1f MB for the whole context)", (long long)window, whole);
        putchar('\n');
    }
}

static void print_pairs(json_t *j)
{
    const char *key;
    json_t *v;
    json_object_foreach(j, key, v) {
        if (strcmp(key, "kernels") == 0) printf("\n%s", json_string_value(v));
        else if (strcmp(key, "cache_groups") == 0) print_groups(v);
        else if (strcmp(key, "plan") == 0) plan_print(stdout, "plan             ", v);
        else if (json_is_string(v)) printf("%-16s %s\n", key, json_string_value(v));
        else {
            char *text = json_dumps(v, JSON_ENCODE_ANY);
            printf("%-16s %s\n", key, text ? text : "");
            free(text);
        }
    }
}

static int info_run(void *options, size_t n, char **operands)
{
    (void)n; (void)operands;
    struct info_options *o = options;
    if (o->families) return print_families(o->json);
    if (o->devices) return print_devices(o->json);
    int code = check_level();
    if (code == EXIT_DONE) code = use_cpus("info", &o->model);
    if (code != EXIT_DONE) return code;
    json_t *all = json_pack("{s:s,s:o}", "version", STRETTO_VERSION, "machine", machine());
    stretto_model *m = NULL;
    if (!o->machine) code = open_model("info", &o->model, false, &m);
    if (code == EXIT_DONE && m) {
        const struct graph *g = &stretto_model_inside(m)->graph;
        json_t *model = describe(m);
        stretto_engine_options eo;
        stretto_engine_info ei = { .size = sizeof ei };
        char err[600];
        code = engine_options_from("info", &o->model, 1, &eo);
        stretto_status s = code == EXIT_DONE ? stretto_engine_estimate(m, &eo, &ei, err, sizeof err) : STRETTO_OK;
        if (s != STRETTO_OK) json_object_set_new(model, "engine", json_string(err));
        else if (code == EXIT_DONE) {
            json_object_set_new(model, "engine_context", json_integer(ei.context));
            json_object_set_new(model, "engine_buffer_bytes",
                                json_integer((json_int_t)ei.buffer_bytes));
            json_object_set_new(model, "engine_cache_bytes",
                                json_integer((json_int_t)ei.cache_bytes));
            json_object_set_new(model, "cache_groups", cache_groups(&ei));
        }
        if (o->json) {
            json_object_set_new(all, "model", model);
            if (o->graph) json_object_set_new(all, "graph", graph_json(g, (double)o->rows));
        } else {
            print_pairs(model);
            json_decref(model);
            if (o->graph) print_graph(g, (double)o->rows);
            putchar('\n');
        }
    }
    if (code == EXIT_DONE && o->json) {
        json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
    } else if (code == EXIT_DONE) {
        printf("%-16s %s\n", "stretto", STRETTO_VERSION);
        print_pairs(json_object_get(all, "machine"));
    }
    json_decref(all);
    stretto_model_close(m);
    return code;
}

static void info_defaults(void *options)
{
    struct info_options *o = options;
    model_options_defaults(&o->model);
    o->rows = 1;
}

static const struct option_group group = { "Information", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = {{&group, 0},
                                         {&group_model, offsetof(struct info_options, model)}};
const struct command command_info = {
    .name = "info",
    .summary = "show what a model is, what this machine offers and what was chosen",
    .operands = "",
    .description =
        "Prints the sizes of a model, the memory an engine for it would take, the kernels that "
        "were chosen for this CPU and the threads it may use; with --device, what a model takes on each "
        "device, as planned from its file. Same bits whatever the batch holds "
        "for one model file, CPU "
        "level and cache type.",
    .uses = uses,
    .n_uses = 2,
    .options_size = sizeof(struct info_options),
    .defaults = info_defaults,
    .run = info_run,
    .unknown = peer_flag,
};
