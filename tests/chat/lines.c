/* Reads messages as `stretto chat` does, without a model: each goes as a JSON string on a line to the file
 * named first. A message "wait" waits for Ctrl-C, as an answer would. */
#include "stretto/line.h"
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static volatile int interrupted;
static void on_interrupt(int sig) { (void)sig; interrupted = 1; }

static const char *word(size_t i)
{
    static const char *const words[] = { "/save", "/set", "/system", NULL };
    return words[i];
}

static void wait_for_interrupt(void)
{
    printf("waiting\n");
    while (!interrupted) nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    interrupted = 0;
    printf("(stopped)\n");
}

int main(int argc, char **argv)
{
    struct line *l = NULL;
    struct error err = { 0 };
    struct sigaction act = { .sa_handler = on_interrupt };
    struct buffer text = buffer_make(LINE_MAX_MESSAGE);
    FILE *out = argc > 1 ? fopen(argv[1], "w") : NULL;
    enum line_result r = LINE_END;
    if (!out || line_open(&l, &interrupted, word, &err) != STRETTO_OK) return 1;
    sigaction(SIGINT, &act, NULL);
    for (;;) {
        interrupted = 0;
        r = line_read(l, &text);
        if (r != LINE_MESSAGE) fprintf(out, "null\n");
        fflush(out);
        if (r == LINE_INTERRUPTED && line_asks(l)) continue;
        if (r != LINE_MESSAGE) break;
        json_t *j = json_stringn(text.len ? text.data : "", text.len);
        char *line = json_dumps(j, JSON_ENCODE_ANY);
        fprintf(out, "%s\n", line ? line : "false");
        fflush(out);
        if (text.len == 4 && memcmp(text.data, "wait", 4) == 0) wait_for_interrupt();
        else printf("got %zu bytes\n", text.len);
        free(line);
        json_decref(j);
    }
    line_close(l);
    buffer_done(&text);
    fclose(out);
    return r == LINE_FAILED;
}
