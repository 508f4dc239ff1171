/* What may stand in the JSON of a request: a row for each field says its type, its range, and what becomes
 * of it. What changes the meaning and cannot be done is refused by name; what changes nothing is taken; what
 * nobody knows is taken too and named in the answer, so that nothing is dropped silently (X-Stretto-Ignored; "..." are
 * names that cannot stand in a header, or for which there is no more room).
 * A field that is null counts as not there. */
#ifndef SERVE_FIELD_H
#define SERVE_FIELD_H
#include "serve/ask.h"

enum field_kind { FIELD_BOOL, FIELD_INT, FIELD_REAL, FIELD_TEXT, FIELD_OBJECT, FIELD_ARRAY, FIELD_ANY };
enum field_does {
    FIELD_READ,        /* into the ask's member at `at`, or by `own`                                       */
    FIELD_LATER,       /* its type is checked; a handler reads it once the model is known                  */
    FIELD_NOTHING,     /* is taken and changes nothing                                                     */
    FIELD_REFUSED,     /* changes the meaning: only a value that asks for nothing is taken: false, 0, "",
                          [], {}, or a number from min to max                                              */
    FIELD_UNSUPPORTED  /* the same, for what a later version will do: 501                                  */
};

struct field {
    const char *name;
    enum field_kind kind;
    enum field_does does;
    size_t at;
    double min, max;                   /* both 0: any                                                      */
    bool (*own)(struct ask *a, const char *name, const json_t *v, struct trouble *t);
    const char *words;                 /* what to do instead, for REFUSED; for own: what is wanted         */
};

struct field_table { const struct field *rows; size_t n; };
#define FIELD_TABLE(rows) { rows, sizeof(rows) / sizeof *(rows) }

/* Reads the members of an object by the first table that knows each. ignored gets the names of those that
 * did nothing, joined by ", ". strict: what no table knows is refused. */
bool fields_read(const json_t *object, const struct field_table *const *tables, size_t n, bool strict, struct ask *a,
                 struct buffer *ignored, struct trouble *t);
/* One value as a row wants it. */
bool field_check(const struct field *f, const json_t *v, struct trouble *t);
/* "a string", "an object" ... */
const char *kind_words(const json_t *v);

/* Shared tables: sampling as all APIs have it, llama.cpp's further ones, and what is refused everywhere. */
extern const struct field_table fields_sampling, fields_llama, fields_job;
/* "none" means not to think; other words are the template's. */
bool field_effort(struct ask *a, const char *name, const json_t *v, struct trouble *t);
/* "none": what is thought stays in the text. */
bool field_reasoning_format(struct ask *a, const char *name, const json_t *v, struct trouble *t);
/* Variables of the template; not those that say what the request says elsewhere. */
bool field_template_vars(struct ask *a, const char *name, const json_t *v, struct trouble *t);
/* Biases of words, once the model is known: each token of a word gets it. */
bool field_bias_words(struct ask *a, struct trouble *t);
bool field_stops(struct ask *a, const char *name, const json_t *v, struct trouble *t);
/* Whether there are tools; a choice that calls none for sure: "none", "auto", or an object of such a type. */
bool field_tools(struct ask *a, const char *name, const json_t *v, struct trouble *t);
bool field_tool_choice(struct ask *a, const char *name, const json_t *v, struct trouble *t);
bool field_stream_options(struct ask *a, const char *name, const json_t *v, struct trouble *t);
#endif
