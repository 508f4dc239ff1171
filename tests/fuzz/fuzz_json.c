/* Any bytes as JSON: the reader and jansson accept the same texts, but for what Python reads besides
 * (NaN, Infinity, a byte order mark), and the tree that is built is jansson's. */
#include "base/json.h"
#include "base/json_tree.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* True when accepted. Walks everything, and looks at every view handed out. */
static bool says(const uint8_t *data, size_t n, const char *word)
{
    return n && memmem(data, n, word, strlen(word));
}

static bool read_all(const char *text, size_t n, bool *too_deep)
{
    struct json j;
    struct error err = { 0 };
    json_open(&j, text, n, "fuzz", &err);
    uint64_t sum = 0;
    enum json_kind kind;
    while ((kind = json_next(&j)) > JT_END) {
        int64_t i;
        double f;
        for (size_t k = 0; k < j.n; k++) sum += (unsigned char)j.p[k];
        if (json_i64(&j, &i) && json_f64(&j, &f) && (double)i != f) abort();
        if (json_whole(&j) && !json_f64(&j, &f)) abort();
        if (j.depth > JSON_MAX_DEPTH) abort();
    }
    if ((kind == JT_ERROR) != (err.text[0] != '\0')) abort();
    if ((kind == JT_ERROR) != (json_status(&j) != STRETTO_OK)) abort();
    *too_deep = strstr(err.text, "deep") != NULL;
    json_done(&j);
    volatile uint64_t keep = sum;
    (void)keep;
    return kind == JT_END;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool too_deep, ours = read_all((const char *)data, size, &too_deep);
    json_error_t e;
    json_t *tree = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    bool theirs = tree != NULL;
    /* A tree cannot hold some well-formed texts: these are its limits, not the grammar's. */
    enum json_error_code code = theirs ? json_error_unknown : json_error_code(&e);
    if (!theirs && (code == json_error_numeric_overflow || code == json_error_null_byte_in_key
                    || code == json_error_stack_overflow)) theirs = ours;
    if (says(data, size, "NaN") || says(data, size, "Infinity") || says(data, size, "\xef\xbb\xbf"))
        theirs = ours;
    json_t *own;
    struct error why = { 0 };
    stretto_status s = json_tree(&own, (const char *)data, size, JSON_TWICE_LAST, "fuzz", &why);
    if ((s == STRETTO_OK) != ours || (own != NULL) != ours || (!own && !why.text[0])) abort();
    if (own && tree && !json_equal(own, tree)) abort();
    json_decref(own);
    json_decref(tree);
    /* jansson takes a raw NUL after a number for the end of the text; we refuse it. */
    if (size && memchr(data, 0, size)) theirs = ours;
    if (ours != theirs && !too_deep && !(size > 4300 && !ours)) abort();

    /* Skipping a value sees the same text as reading it. */
    struct json j;
    struct error err = { 0 };
    const char *p;
    size_t n;
    json_open(&j, (const char *)data, size, "fuzz", &err);
    json_next(&j);
    bool skipped = json_raw(&j, &p, &n) && json_next(&j) == JT_END;
    if (skipped != ours) abort();
    if (skipped && (p < (const char *)data || n > size)) abort();
    json_done(&j);
    return 0;
}
