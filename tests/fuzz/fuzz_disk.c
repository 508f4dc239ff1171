/* Any bytes as a file of pages (cache/disk.h), some with the right digests put in: opened, every page that is found is
 * one that the file has with its digest, and what is appended is found again.
 *
 * The first byte says which digests are made right: 1 of heads, 2 of ways, 4 of pages. */
#include "cache/disk.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROLES = 16, BEFORE = 24, WAY = 56, BYTES = 88, PAGES_SUM = 96, TOKENS = 128, SUM = 384 };
enum { PAGE_A = 64, PAGE_B = 40 };

static char folder[64], name[128];

static void leave(void)
{
    unlink(name);
    snprintf(name, sizeof name, "%s/0000000000000000.lock", folder);
    unlink(name);
    for (int i = 2; i < 4; i++) {
        snprintf(name, sizeof name, "%s/0000000000000000-%08x.pages", folder, i);
        unlink(name);
    }
    rmdir(folder);
}

static void digest(const unsigned char *data, size_t n, unsigned char *out, size_t bytes)
{
    struct blake2b b;
    blake2b_begin(&b, bytes);
    blake2b_add(&b, data, n);
    blake2b_end(&b, out);
}

static uint64_t number(const unsigned char *p, int n)
{
    uint64_t v = 0;
    while (n--) v = v << 8 | p[n];
    return v;
}

static void tokens_of(const unsigned char *head, int32_t *tokens)
{
    for (int i = 0; i < PAGE_SLOTS; i++) tokens[i] = (int32_t)number(head + TOKENS + 4 * i, 4);
}

static void mend(unsigned char *head, size_t left, unsigned what)
{
    int32_t tokens[PAGE_SLOTS];
    uint64_t bytes = number(head + BYTES, 8);
    tokens_of(head, tokens);
    if (what & 2) disk_way(head + BEFORE, tokens, number(head + ROLES, 8), head + WAY);
    if (what & 4 && bytes <= left - DISK_HEAD) digest(head + DISK_HEAD, (size_t)bytes, head + PAGES_SUM, DISK_DIGEST);
    if (what & 1) digest(head, SUM, head + SUM, 16);
}

static void check_record(struct disk *d, const unsigned char *head)
{
    int32_t tokens[PAGE_SLOTS];
    uint32_t groups;
    const void *pages;
    unsigned char sum[DISK_DIGEST];
    struct error err = { 0 };
    tokens_of(head, tokens);
    int32_t r = disk_find(d, head + BEFORE, tokens, number(head + ROLES, 8), true);
    if (r < 0) return;
    if (disk_read(d, r, &groups, &pages, &err) != STRETTO_OK) {
        if (!err.text[0] || disk_has(d, r)) abort();
        return;
    }
    if (!groups || groups > 3) abort();
    digest(pages, (groups & 1 ? (size_t)PAGE_A : 0) + (groups & 2 ? (size_t)PAGE_B : 0), sum, sizeof sum);
    if (memcmp(sum, (const unsigned char *)pages - DISK_HEAD + PAGES_SUM, sizeof sum)) abort();
    if (disk_roles_of(d, r) != number(head + ROLES, 8)) abort();
}

static void check_append(struct disk *d)
{
    int32_t tokens[PAGE_SLOTS] = { 5 };
    unsigned char root[DISK_DIGEST];
    uint32_t groups;
    const void *pages;
    disk_root(d, 0, root);
    disk_room(d);
    memset(disk_place(d), 9, PAGE_A + PAGE_B);
    struct disk_page x = { .before = root, .tokens = tokens, .depth = 1, .groups = 3 };
    int32_t r = disk_append(d, &x);
    if (r < 0 || disk_find(d, root, tokens, 0, true) != r) abort();
    if (disk_read(d, r, &groups, &pages, NULL) != STRETTO_OK || groups != 3) abort();
    if (((const char *)pages)[PAGE_A] != 9) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct disk_options o = { .folder = folder, .bytes = 1 << 20, .n_groups = 2, .page = { PAGE_A, PAGE_B } };
    struct error err = { 0 };
    struct disk *d;
    if (!size || size > 1 << 16) return 0;
    if (!folder[0]) {
        snprintf(folder, sizeof folder, "%s/fuzz-disk-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
        if (!mkdtemp(folder)) abort();
        snprintf(name, sizeof name, "%s/0000000000000000-00000001.pages", folder);
        atexit(leave);
    }
    unsigned char *file = malloc(size);
    if (!file) return 0;
    size_t n = size - 1;
    memcpy(file, data + 1, n);
    for (size_t at = 0; at + DISK_HEAD <= n; at += DISK_BLOCK) mend(file + at, n - at, data[0]);
    unlink(name);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || write(fd, file, n) != (ssize_t)n || close(fd)) abort();
    if (disk_open(&d, &o, &err) != STRETTO_OK) abort();
    for (size_t at = 0; at + DISK_HEAD <= n; at += DISK_BLOCK) check_record(d, file + at);
    check_append(d);
    disk_close(d);
    free(file);
    return 0;
}
