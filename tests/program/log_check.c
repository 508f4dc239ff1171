/* log_check FILE: opens a vocabulary through the public header and prints what the library says. */
#include "stretto/stretto.h"
#include <stdio.h>

static void say(void *user, const char *line)
{
    printf("%s: %s\n", (const char *)user, line);
}

int main(int argc, char **argv)
{
    char err[500];
    stretto_model *m = NULL;
    stretto_model_options o = STRETTO_MODEL_OPTIONS_INIT;
    o.vocabulary_only = 1;
    o.log = say;
    o.user = "log";
    if (argc != 2) return 2;
    stretto_status s = stretto_model_open(&m, argv[1], &o, err, sizeof err);
    if (s != STRETTO_OK) printf("error: %s\n", err);
    stretto_model_close(m);
    return s != STRETTO_OK;
}
