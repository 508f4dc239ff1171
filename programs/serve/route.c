#include "serve/route.h"
#include <stdio.h>
#include <string.h>

/* Families of routes, one file each. */
static const struct routes *const all[] = {
    &routes_openai_chat, &routes_openai_text, &routes_openai_models, &routes_embeddings, &routes_native,
    &routes_completion, &routes_state, &routes_messages, &routes_responses, &routes_ollama, &routes_page,
};

static bool fits(const char *pattern, const char *path, char *rest, size_t cap)
{
    size_t n = strlen(pattern);
    *rest = '\0';
    if (!n || pattern[n - 1] != '*') return strcmp(pattern, path) == 0;
    if (strncmp(pattern, path, n - 1) != 0) return false;
    snprintf(rest, cap, "%s", path + n - 1);
    return *rest != '\0' && strlen(path + n - 1) < cap;
}

/* Below /v1 and beside it. */
static bool matches(const struct route *r, const char *path, char *rest, size_t cap)
{
    if (fits(r->path, path, rest, cap)) return true;
    if (strncmp(r->path, "/v1/", 4) == 0) return fits(r->path + 3, path, rest, cap);
    return strncmp(path, "/v1/", 4) == 0 && r->path[1] && strncmp(r->path, "/api", 4) != 0
           && fits(r->path, path + 3, rest, cap);
}

const struct route *route_find(const char *method, const char *path, char *rest, size_t cap, char allowed[64])
{
    allowed[0] = '\0';
    bool head = strcmp(method, "HEAD") == 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (size_t k = 0; k < all[i]->n; k++) {
            const struct route *r = &all[i]->rows[k];
            if (!matches(r, path, rest, cap)) continue;
            if (strcmp(r->method, head ? "GET" : method) == 0) return r;
            size_t n = strlen(allowed);
            if (!strstr(allowed, r->method)) snprintf(allowed + n, 64 - n, "%s%s", n ? ", " : "", r->method);
        }
    return NULL;
}

const struct manner *route_manner(const char *path)
{
    return strncmp(path, "/api/", 5) == 0 ? &manner_ollama
           : strncmp(path, "/v1/messages", 12) == 0 ? &manner_anthropic : &manner_openai;
}
