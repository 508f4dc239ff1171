/* Any bytes as a saved conversation: refused with words, or taken whole; what was taken is written in a form
 * that reads back the same. */
#include "stretto/talk.c"
#include "stretto/talk_file.c"

static bool same(const struct talk *a, const struct talk *b)
{
    if (a->n != b->n || !a->system != !b->system) return false;
    if (a->system && strcmp(a->system, b->system) != 0) return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->messages[i].role, b->messages[i].role) != 0 ||
            strcmp(a->messages[i].content, b->messages[i].content) != 0) return false;
    return true;
}

static void write_and_read(const struct talk *t, const json_t *parameters, bool lines)
{
    struct buffer text = buffer_make((size_t)1 << 26);
    struct talk again = { 0 };
    struct error err = { 0 };
    json_t *none = json_object(), *read = NULL;
    if (as_json(t, parameters ? parameters : none, lines, &text) != STRETTO_OK) abort();
    if (talk_parse(&again, text.data, text.len, &read, &err) != STRETTO_OK || !same(t, &again)) abort();
    json_decref(read);
    json_decref(none);
    talk_done(&again);
    buffer_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct talk t = { 0 };
    struct error err = { 0 };
    json_t *parameters = NULL;
    char *text = mem_strndup(size ? (const char *)data : "", size);
    if (!text) return 0;
    stretto_status s = talk_parse(&t, text, size, &parameters, &err);
    if (s != STRETTO_OK && (!err.text[0] || parameters)) abort();
    if (s == STRETTO_OK) {
        write_and_read(&t, parameters, true);
        write_and_read(&t, parameters, false);
    }
    json_decref(parameters);
    talk_done(&t);
    mem_free(text);
    return 0;
}
