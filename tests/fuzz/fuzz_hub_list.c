/* Any bytes as the hub's list of files: what is chosen can be stored without leaving its folder. */
#include "pull/hub_list.c"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hub_list l;
    struct error err = { 0 };
    if (size > HUB_MAX_LIST) return 0;
    if (hub_list_parse(&l, (const char *)data, size, "hf:user/repo", &err) != STRETTO_OK) {
        if (l.n || l.files || !err.text[0]) abort();
        return 0;
    }
    size_t chosen = 0;
    for (size_t i = 0; i < l.n; i++) {
        chosen += l.files[i].chosen;
        if (!catalogue_name_ok(l.files[i].name)) abort();
        if (l.files[i].sha256[0] && strlen(l.files[i].sha256) != 64) abort();
    }
    if (!chosen || l.n >= HUB_MAX_FILES) abort();
    hub_list_close(&l);
    return 0;
}
