/* Adapters that a model is opened with (format/adapter.h): their nodes stand in its graph, so they run, and are
 * cut and shared, as everything else of it. Of several, each adds what it has times a scale of its own. Those that are
 * chosen, or act on some rows alone, act on rows of a set (graph.h), which an engine names in each step
 * (engine/engine.h: engine_adapt). */
#ifndef MODEL_ADAPTERS_H
#define MODEL_ADAPTERS_H
#include "format/adapter.h"
#include "graph/binding.h"

struct model;

/* An adapter by its file or folder; of an opened model: with what was read of it, and a digest of that. chosen: by
 * sequences that ask for it, else it acts on all of them. */
struct model_adapter { char *path; float scale; bool chosen; struct adapter pairs; uint64_t key; };

/* Whether it acts on rows of a set, which has its number. */
static inline bool model_adapter_in_set(const struct model_adapter *a)
{
    return a->chosen || a->pairs.rows != ADAPTER_ALL;
}

/* The first adapter of an opened model that acts on guesses alone (decode/gated.c); NULL: there is none. */
const struct model_adapter *model_gated(const struct model *m);

/* Before the vocabulary is read: the tokens that one of them brings along (format/adapter_tokens.h). */
stretto_status model_adapters_tokens(struct model *m, const struct model_adapter *list, size_t n, struct error *err);
/* Whether the adapter of this file brings tokens along, and on which rows it acts. */
stretto_status model_adapter_look(const char *path, bool *phrases, enum adapter_rows *rows, struct error *err);
/* Reads what the options name and puts it into m->graph. */
stretto_status model_adapters_open(struct model *m, const struct model_adapter *list, size_t n, struct error *err);
/* Says of an opened model where an adapter was trained beside other weights, or with another template. */
void model_adapters_tell(const struct model *m, void (*log)(void *ud, const char *line), void *ud);
void model_adapters_done(struct model *m);
/* A parameter of adapter number `which` of a graph (graph/adapt.h); false where the name is none. */
bool adapter_param(const struct adapter *a, size_t which, const char *name, struct param_bytes *out);
/* Of those that the model was opened with. */
bool model_adapters_param(const struct model *m, const char *name, struct param_bytes *out);
#endif
