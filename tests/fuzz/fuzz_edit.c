/* Any bytes typed or pasted at a terminal of any size, and as a history file: the message keeps its bounds,
 * the cursor stays on a border of characters, the cursor's row is one that is shown. */
#include "stretto/keys.c"
#include "stretto/edit.c"
#include "stretto/screen.c"
/* Only what is made of a file's bytes is under test, not where files are. */
#include "stretto/history.c"

static void check(const struct edit *e, const struct screen *s, const struct buffer *out)
{
    const struct buffer *t = &e->text;
    if (e->at > t->len || t->len > EDIT_MAX_TEXT || (t->data && t->data[t->len])) abort();
    if (e->at && edit_before(t, e->at) >= e->at) abort();
    if (s->from > t->len || s->row >= s->rows || !out->len) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 4096) return 0;
    struct history h = { .path = "" };
    struct keys k;
    struct edit e;
    struct screen s;
    struct buffer out = buffer_make((size_t)1 << 24);
    history_parse(&h, (const char *)data, size, data[0] % 2);
    for (size_t i = 0; i < h.n; i++)
        if (!*h.entries[i] || history_write(&out, h.entries[i]) != STRETTO_OK) abort();
    keys_init(&k);
    edit_init(&e, &h);
    screen_init(&s, false);
    screen_resize(&s, &e, data[0], data[1] % 16);
    for (size_t i = 2; i < size; i++) {
        const char *text = NULL;
        size_t n = 0;
        enum key key = keys_feed(&k, data[i], &text, &n);
        if (key == KEY_NONE) continue;
        if (edit_key(&e, key, text, n) == EDIT_SEND) edit_reset(&e);
        if (i % 7 == 0) screen_resize(&s, &e, data[0] ^ data[i], data[1] % 16);
        buffer_clear(&out);
        if (screen_draw(&s, &e, &out) != STRETTO_OK) abort();
        check(&e, &s, &out);
    }
    buffer_clear(&out);
    if (screen_finish(&s, &e, &out) != STRETTO_OK) abort();
    buffer_done(&out);
    edit_done(&e);
    keys_done(&k);
    history_close(&h);
    return 0;
}
