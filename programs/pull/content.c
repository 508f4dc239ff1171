#include "pull/content.h"
#include "models/hub_name.h"
#include <stdbool.h>
#include <string.h>
#include <strings.h>

static bool begins(const unsigned char *p, size_t n, const char *with)
{
    size_t w = strlen(with);
    return n >= w && strncasecmp((const char *)p, with, w) == 0;
}

/* Behind a byte order mark and white space. */
static bool is_page(const unsigned char *p, size_t n)
{
    size_t at = begins(p, n, "\xef\xbb\xbf") ? 3 : 0;
    while (at < n && (p[at] == ' ' || (p[at] >= '\t' && p[at] <= '\r'))) at++;
    return begins(p + at, n - at, "<!doctype html") || begins(p + at, n - at, "<html")
        || begins(p + at, n - at, "<head") || begins(p + at, n - at, "<?xml");
}

/* Eight bytes of length, then a JSON object of that length. */
static bool is_safetensors(const unsigned char *p, size_t n, uint64_t size)
{
    uint64_t header = 0;
    for (size_t i = 8; i-- > 0 && n > 8;) header = header << 8 | p[i];
    return n > 8 && p[8] == '{' && header <= size - 8;
}

stretto_status content_check(const char *name, const unsigned char *head, size_t n, uint64_t size,
                             struct error *err)
{
    if (is_page(head, n) && !name_ends(name, ".html") && !name_ends(name, ".htm") && !name_ends(name, ".xml"))
        return fail(err, STRETTO_E_FORMAT, "%s arrived as a web page, not as the file: open the address "
                    "in a browser and copy the link of the file itself", name);
    if (begins(head, n, "version https://git-lfs."))
        return fail(err, STRETTO_E_FORMAT, "%s arrived as a pointer of git-lfs, not as the file: use "
                    "the address of its content (resolve, not raw)", name);
    if (name_ends(name, ".gguf") && (n < 4 || memcmp(head, "GGUF", 4) != 0))
        return fail(err, STRETTO_E_FORMAT, "%s arrived, but is not a GGUF file: it does not begin with GGUF",
                    name);
    if (name_ends(name, ".safetensors") && !is_safetensors(head, n, size))
        return fail(err, STRETTO_E_FORMAT, "%s arrived, but is not a safetensors file: it does not begin "
                    "with a header", name);
    return STRETTO_OK;
}
