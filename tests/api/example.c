/* Opens a model, continues a text with it and prints what it writes: example MODEL.gguf "text" */
#include <stdio.h>
#include <string.h>
#include <stretto/stretto.h>

static int print(void *user, const char *piece, size_t length)
{
    return fwrite(piece, 1, length, user) == length ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL TEXT\n", argv[0]);
        return 2;
    }
    char words[512] = "";
    int32_t ids[1024];
    size_t count = 0;
    stretto_model *model = NULL;
    stretto_session *session = NULL;

    stretto_status s = stretto_model_open(&model, argv[1], NULL, words, sizeof words);
    if (s == STRETTO_OK)
        s = stretto_session_open_model(&session, model, NULL, words, sizeof words);
    if (s == STRETTO_OK)
        s = stretto_tokenize(model, argv[2], strlen(argv[2]), STRETTO_TOKENIZE_ADD, ids, 1024,
                             &count);
    if (s == STRETTO_OK) s = stretto_session_sync(session, ids, count, NULL);
    if (s == STRETTO_OK) {
        stretto_generate_options options = STRETTO_GENERATE_OPTIONS_INIT;
        options.max_tokens = 24;
        options.text = print;
        options.user = stdout;
        s = stretto_session_generate(session, &options, NULL);
    }
    if (s != STRETTO_OK)
        fprintf(stderr, "\n%s: %s\n", stretto_status_text(s),
                session ? stretto_session_error(session) : words);
    stretto_session_close(session);
    stretto_model_close(model);
    return s == STRETTO_OK ? 0 : 1;
}
