/* Every allocation of every request of the fuzz corpus fails once, jansson's too: the answer is then what it is
 * with memory, whole to the last value, or a refusal that says so, or a stream that was cut; nothing leaks.
 *
 * usage: fault_request FOLDER */
#include "base/memory.h"
#include "serve/exchange.h"

#define HUNGRY 1
static void eat(struct exchange *x);
#define LLVMFuzzerTestOneInput request_once
#include "fuzz/fuzz_request.c"
#include <dirent.h>

static struct { uint64_t fails_at, began; bool reached; enum trouble_kind kind; size_t size; bool cut; } now;

static size_t count_values(const json_t *v)
{
    size_t n = 1, i;
    const char *key;
    json_t *one;
    if (json_is_array(v)) json_array_foreach((json_t *)(uintptr_t)v, i, one) n += count_values(one);
    if (json_is_object(v)) json_object_foreach((json_t *)(uintptr_t)v, key, one) n += 1 + count_values(one);
    return n;
}

static size_t count_events(const struct buffer *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->len; i++) n += b->data[i] == '\n' || b->data[i] == ',';
    return n;
}

/* But for digits: a time has as many as it takes. */
static size_t count_bytes(const struct buffer *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->len; i++) n += b->data[i] < '0' || b->data[i] > '9';
    return n;
}

/* The request is answered: what of it, before memory is needed to look at it. */
static void eat(struct exchange *x)
{
    now.reached = mem_count() - now.began >= now.fails_at;
    mem_fail_at(0);
    now.kind = x->trouble.kind;
    now.cut = x->cut;
    now.size = x->streams_out ? count_events(&x->out) : x->reply ? count_values(x->reply)
             : count_bytes(&x->reply_text);
}

static void once(const uint8_t *data, size_t n, uint64_t fails_at)
{
    now.fails_at = fails_at;
    now.reached = false;
    now.kind = TROUBLE_BUSY;               /* where there was not even memory for the exchange */
    now.began = mem_count();
    mem_fail_at(fails_at);
    request_once(data, n);
    if (mem_count() - now.began >= fails_at) now.reached = true;
    mem_fail_at(0);
}

static int check(const char *name, const uint8_t *data, size_t n)
{
    enum { MOST = 3000 };                  /* requests of megabytes are the same again and again */
    int wrong = 0;
    once(data, n, UINT64_MAX);
    const enum trouble_kind kind = now.kind;
    const size_t size = now.size;
    now.reached = true;
    for (uint64_t i = 1; now.reached && i < MOST; i++) {
        once(data, n, i);
        bool refused = now.kind == TROUBLE_BUSY, whole = now.kind == kind && now.size == size;
        if (refused || whole || now.cut) continue;
        printf("FAIL %s: allocation %llu: kind %d instead of %d, size %zu of %zu\n", name, (unsigned long long)i,
               (int)now.kind, (int)kind, now.size, size);
        wrong++;
    }
    return wrong;
}

int main(int argc, char **argv)
{
    static uint8_t data[1 << 20];
    DIR *d = argc > 1 ? opendir(argv[1]) : NULL;
    int wrong = 0, files = 0;
    if (!d) return 2;
    uint8_t first[] = { 0, '{', '}' };
    request_once(first, sizeof first);     /* the model is opened */
    for (struct dirent *e; (e = readdir(d));) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], e->d_name);
        FILE *f = *e->d_name == '.' ? NULL : fopen(path, "rb");
        if (!f) continue;
        size_t n = fread(data, 1, sizeof data, f);
        fclose(f);
        wrong += check(e->d_name, data, n);
        files++;
    }
    closedir(d);
    printf("%d requests, %d wrong\n", files, wrong);
    return wrong || !files;
}
