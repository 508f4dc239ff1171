/* Any words as the name of a model of Hugging Face: what is taken is spelled so that it is read back as the
 * same, and lies below the folder of models. */
#include "models/catalogue.h"
#include "models/hub_name.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *spec)
{
    struct hub_name n, again;
    struct error err = { 0 };
    struct buffer spelled = buffer_make(4096), folder = buffer_make(4096);
    if (hub_name_parse(&n, spec, &err) != STRETTO_OK) {
        if (!err.text[0]) abort();
        return;
    }
    if (hub_name_spell(&n, &spelled) != STRETTO_OK || hub_name_folder(&n, "/models", &folder) != STRETTO_OK) abort();
    if (hub_name_parse(&again, spelled.data, NULL) != STRETTO_OK) abort();
    if (strcmp(n.repo, again.repo) || strcmp(n.file, again.file) || strcmp(n.quant, again.quant)
        || strcmp(n.revision, again.revision)) abort();
    if (*n.file && !catalogue_name_ok(n.file)) abort();
    /* USER/REPO, and nothing that leads elsewhere. */
    size_t slashes = 0;
    for (const char *p = folder.data; *p; p++) slashes += *p == '/';
    if (slashes != 3 || strncmp(folder.data, "/models/", 8) != 0 || strstr(folder.data, "/.")) abort();
    gguf_is_model(spec);
    gguf_same_model(spec, n.file);
    gguf_has_quant(spec, n.quant);
    buffer_done(&spelled);
    buffer_done(&folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *spec = malloc(size + 1);
    if (!spec) return 0;
    if (size) memcpy(spec, data, size);
    spec[size] = '\0';
    check(spec);
    free(spec);
    return 0;
}
