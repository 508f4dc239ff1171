/* Adapters that sessions choose: what an embedder writes. Three sessions of one engine share a model, one with each
 * adapter and one with none, and write in turn what each writes alone.
 *
 * usage: adapters_api MODEL ADAPTER ADAPTER */
#include "stretto/stretto.h"
#include <stdio.h>
#include <string.h>

enum { TOKENS = 24, SESSIONS = 3 };
static const int32_t prompt[] = { 1, 5, 9, 3, 7, 2, 8 };
static const float weights[SESSIONS][2] = { { 1, 0 }, { 0, 0 }, { 0, 0.5f } };

/* Sessions first to last - 1 of a new engine write, a token each in turn. */
static stretto_status write_texts(const stretto_model *m, int first, int last, int32_t text[SESSIONS][TOKENS])
{
    char err[600] = "";
    stretto_engine *e = NULL;
    stretto_session *s[SESSIONS] = { 0 };
    stretto_engine_options o = STRETTO_ENGINE_OPTIONS_INIT;
    o.sessions = SESSIONS;
    stretto_status r = stretto_engine_open(&e, m, &o, err, sizeof err);
    for (int i = first; r == STRETTO_OK && i < last; i++) {
        r = stretto_session_open(&s[i], e, err, sizeof err);
        stretto_sampling how = STRETTO_SAMPLING_INIT;
        how.temperature = 1;
        if (r == STRETTO_OK) r = stretto_session_sampling(s[i], &how);
        if (r == STRETTO_OK) r = stretto_session_adapt(s[i], weights[i], 2);
        if (r == STRETTO_OK) r = stretto_session_sync(s[i], prompt, sizeof prompt / sizeof *prompt, NULL);
    }
    for (int t = 0; t < TOKENS; t++)
        for (int i = first; r == STRETTO_OK && i < last; i++) r = stretto_session_next(s[i], &text[i][t]);
    if (r == STRETTO_OK && stretto_session_adapt(s[first], weights[0], 3) != STRETTO_E_ARG) r = STRETTO_E_ARG;
    if (r != STRETTO_OK) printf("%s\n%s\n", err, s[first] ? stretto_session_error(s[first]) : "");
    for (int i = first; i < last; i++) stretto_session_close(s[i]);
    stretto_engine_close(e);
    return r;
}

int main(int argc, char **argv)
{
    char err[600];
    static int32_t alone[SESSIONS][TOKENS], together[SESSIONS][TOKENS];
    if (argc != 4) return 2;
    const char *const files[] = { argv[2], argv[3], NULL };
    stretto_model_options o = STRETTO_MODEL_OPTIONS_INIT;
    o.chosen = files;
    stretto_model *m;
    if (stretto_model_open(&m, argv[1], &o, err, sizeof err) != STRETTO_OK) {
        printf("%s\n", err);
        return 1;
    }
    stretto_adapter_info info = { .size = sizeof info };
    for (size_t i = 0; stretto_model_adapter(m, i, &info) == STRETTO_OK; i++)
        printf("%s acts on %s rows of %u layers\n", info.path, info.rows, info.layers);
    stretto_status s = write_texts(m, 0, SESSIONS, together);
    for (int i = 0; s == STRETTO_OK && i < SESSIONS; i++) s = write_texts(m, i, i + 1, alone);
    stretto_model_close(m);
    if (s != STRETTO_OK) return 1;
    int same = memcmp(alone, together, sizeof alone) == 0;
    int apart = memcmp(alone[0], alone[1], sizeof alone[0]) && memcmp(alone[1], alone[2], sizeof alone[1]);
    printf("texts are %s as alone, and %s\n", same ? "the same" : "NOT the same",
           apart ? "differ by adapter" : "do NOT differ by adapter");
    return same && apart ? 0 : 1;
}
