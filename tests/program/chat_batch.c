/* chat_batch FOLDER-OR-FILE: reads "ANSWER SPECIAL BEGIN COUNT\n" and COUNT messages, each "ROLE LENGTH\n"
 * and LENGTH bytes, again and again, and answers each with a line: the ids of stretto_chat_tokenize, a tab,
 * stretto_chat_render's text in hexadecimal, a tab, what the log heard; or "error: " and why. Through the
 * public header alone; tests only. */
#include "stretto/stretto.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 64, ROOM = 1 << 20 };
static char said[2000];

static void hear(void *user, const char *line)
{
    (void)user;
    strncat(said, line, sizeof said - strlen(said) - 1);
}

static int read_message(stretto_message *m)
{
    static char roles[MOST][32];
    static int next;
    size_t n;
    char *role = roles[next++ % MOST];
    if (scanf("%31s %zu", role, &n) != 2 || getchar() != '\n') return 0;
    char *p = calloc(n + 1, 1);
    if (!p || fread(p, 1, n, stdin) != n) return 0;
    *m = (stretto_message){ role, p };
    return 1;
}

static void answer(const stretto_model *model, const stretto_message *m, size_t n,
                   const stretto_chat_options *o)
{
    static int32_t ids[ROOM];
    static char text[ROOM], err[600];
    size_t count, length;
    said[0] = '\0';
    stretto_status s = stretto_chat_tokenize(model, m, n, o, ids, ROOM, &count, err, sizeof err);
    if (s == STRETTO_OK)
        s = stretto_chat_render(model, m, n, (int)o->answer, text, ROOM, &length, err, sizeof err);
    if (s != STRETTO_OK) {
        printf("error: %s\n", err);
        return;
    }
    for (size_t i = 0; i < count; i++) printf(i ? " %d" : "%d", ids[i]);
    putchar('\t');
    for (size_t i = 0; i < length; i++) printf("%02x", (unsigned char)text[i]);
    printf("\t%s\n", said);
}

int main(int argc, char **argv)
{
    stretto_model *model;
    stretto_model_options mo = STRETTO_MODEL_OPTIONS_INIT;
    stretto_chat_options o = STRETTO_CHAT_OPTIONS_INIT;
    static stretto_message m[MOST];
    char err[600];
    size_t n;
    int code = 0;
    mo.vocabulary_only = 1;
    o.log = hear;
    if (argc != 2) return 2;
    if (stretto_model_open(&model, argv[1], &mo, err, sizeof err) != STRETTO_OK) {
        printf("error: %s\n", err);
        return 1;
    }
    while (!code && scanf("%u %u %u %zu", &o.answer, &o.special_in_text, &o.begin, &n) == 4) {
        if (n > MOST || getchar() != '\n') code = 1;
        for (size_t i = 0; !code && i < n; i++) code = !read_message(&m[i]);
        if (!code) answer(model, m, n, &o);
        for (size_t i = 0; i < n && i < MOST; i++) {
            free((void *)(uintptr_t)m[i].content);
            m[i].content = NULL;
        }
    }
    stretto_model_close(model);
    return code;
}
