/* Any bytes as a line of a file of prompts: refused with words, or whole. */
#include "stretto/prompts.h"
#include <stdlib.h>
#include <string.h>

/* Only the parser is under test; the rest of the file talks to people. */
#include "stretto/prompts.c"
int command_fail(const char *command, stretto_status s, const char *words)
{
    (void)command; (void)s; (void)words;
    return EXIT_FAILED;
}
void interrupt_ends(bool at_once) { (void)at_once; }

char *read_text(const char *command, const char *path, size_t *length)
{
    (void)command; (void)path; (void)length;
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct prompt p;
    struct error err = { 0 };
    if (prompt_parse(&p, (const char *)data, size, 7, &err) != STRETTO_OK) {
        if (p.id || p.text || p.ids || !err.text[0]) abort();
        return 0;
    }
    if (!p.id || !p.set || !p.text == !p.ids || !p.ids != !p.n) abort();
    if (strlen(p.id) > PROMPT_MAX_NAME || (p.stop && strlen(p.stop) > PROMPT_MAX_NAME)) abort();
    for (size_t i = 0; i < p.n; i++)
        if (p.ids[i] < 0) abort();
    prompt_done(&p);
    return 0;
}
