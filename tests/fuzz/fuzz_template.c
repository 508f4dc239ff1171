/* Any bytes as a template, rendered with a small conversation: no crash, no leak, no endless work.
 * What is printed is UTF-8, and rendering twice gives the same. */
#include "template/template.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char vars_text[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"},"
    " {\"role\": \"user\", \"content\": \"Gr\\u00fc\\u00dfe <b>\"},"
    " {\"role\": \"assistant\", \"content\": null,"
    "  \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"k\": 1.5}}}]}],"
    " \"tools\": null, \"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"eos_token\": \"</s>\","
    " \"l\": [3, 1, 2], \"a\": 7, \"f\": 2.5, \"s\": \"Hello World\", \"d\": {\"x\": 1, \"items\": 2}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct template_input in = { .vars = vars_text, .n_vars = sizeof vars_text - 1,
                                       .now = 1000000000 };
    if (size > 4096) return 0;
    struct template *t;
    struct error err = { 0 };
    if (template_compile(&t, (const char *)data, size, &err)) {
        if (!err.text[0]) abort();
        return 0;
    }
    struct buffer one = buffer_make((size_t)1 << 25), two = buffer_make((size_t)1 << 25);
    struct buffer marks = buffer_make((size_t)1 << 25);
    stretto_status s = template_render(t, &in, &one, NULL, &err);
    if (s && (!err.text[0] || one.len)) abort();
    if (!s) {
        json_t *text = json_stringn(one.data ? one.data : "", one.len);
        if (!text) abort();
        json_decref(text);
        if (template_render(t, &in, &two, &marks, &err)) abort();
        if (marks.len != two.len) abort();
        if (one.len != two.len || (one.len && memcmp(one.data, two.data, one.len) != 0)) abort();
    }
    buffer_done(&one);
    buffer_done(&two);
    buffer_done(&marks);
    template_free(t);
    return 0;
}
