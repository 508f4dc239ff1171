/* The rules of resuming. Bytes of an earlier run may be gone on with when the sha256 of the whole
 * is known, because then the end decides; or when the same source vouches for them with the same
 * strong validator. Otherwise they are dropped. A resumed file whose hash is wrong is fetched once
 * more from the beginning before its source is given up. */
#include "pull/pull.h"
#include "pull/content.h"
#include "pull/part.h"
#include "pull/place.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RETRY_AFTER_S = 120, MAX_BACKOFF = 30, MAX_AGAIN = 3 };

/* One file at work. */
struct job {
    struct pull *pull;
    const struct pull_file *file;
    struct part part;
    struct pull_result *result;
    char sha256[65];                     /* known beforehand, or from the source        */
    uint64_t bytes;
    char source_id[65], shown[200];
    uint64_t started;                    /* bytes that were there when this attempt began */
};

/* ---- what arrives ---------------------------------------------------------------------------- */

static enum outcome room_check(struct job *j, uint64_t total, struct error *err)
{
    uint64_t room = part_room(&j->part), need = total - j->part.have;
    if (need <= room) return OUT_DONE;
    fail(err, STRETTO_E_IO,
         "%s needs %.1f MB and its disk has %.1f MB free: free some space, or choose "
         "another folder with --into",
         j->file->name, (double)need * 1e-6, (double)room * 1e-6);
    return OUT_STOP;
}

static enum outcome job_begin(void *ud, const struct http_answer *a, struct error *err)
{
    struct job *j = ud;
    struct part *p = &j->part;
    if (!j->sha256[0]) strcpy(j->sha256, a->linked_sha256);
    if (!j->bytes) j->bytes = a->linked_bytes;
    if (j->bytes && a->total && a->total != j->bytes) {
        fail(err, STRETTO_E_FORMAT, "%s has %llu bytes and should have %llu: it is another file",
             j->shown, (unsigned long long)a->total, (unsigned long long)j->bytes);
        return OUT_NEXT;
    }
    if (a->status == 206) {
        bool changed = *p->validator && *a->validator && strcmp(p->source, j->source_id) == 0
                    && strcmp(p->validator, a->validator) != 0;
        if (a->from != p->have || changed || (p->total && a->total && a->total != p->total)) {
            fail(err, STRETTO_E_IO, "%s has changed since the last time", j->shown);
            return OUT_AGAIN;
        }
    } else if (p->have) {
        if (part_restart(p, err) != STRETTO_OK) return OUT_STOP;
        j->pull->note("%s cannot be resumed, or has changed: starting over", j->shown);
    }
    j->started = p->have;
    uint64_t total = a->total ? a->total : j->bytes;
    if (!total && !a->framed && !j->sha256[0]) {
        fail(err, STRETTO_E_FORMAT,
             "%s does not say how long it is, so a cut connection would not be "
             "noticed: give its --sha256",
             j->shown);
        return OUT_NEXT;
    }
    if (total) {
        enum outcome out = room_check(j, total, err);
        if (out != OUT_DONE) return out;
    }
    return part_note(p, j->source_id, a->validator, total, err) == STRETTO_OK ? OUT_DONE : OUT_STOP;
}

static enum outcome job_write(void *ud, const void *data, size_t n, struct error *err)
{
    struct job *j = ud;
    struct part *p = &j->part;
    if (p->total && n > p->total - p->have) {
        fail(err, STRETTO_E_FORMAT, "%s sends more than the %llu bytes it should have", j->shown,
             (unsigned long long)p->total);
        return OUT_NEXT;
    }
    if (part_write(p, data, n, err) != STRETTO_OK) return OUT_STOP;
    progress_tell(&j->pull->progress, j->file->name, p->have, p->total);
    if (!*j->pull->stop) return OUT_DONE;
    fail(err, STRETTO_E_CANCEL, "interrupted");
    return OUT_STOP;
}

/* ---- one attempt ----------------------------------------------------------------------------- */

/* A file of this machine, through the same two doors as one of the network. */
static enum outcome copy_file(struct job *j, const char *path, struct error *err)
{
    static char block[1 << 18];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        fail(err, STRETTO_E_IO, "cannot read %.200s: %s", path,
             fd < 0                ? strerror(errno)
             : S_ISDIR(st.st_mode) ? "it is a folder; pass it to -m directly"
                                   : "it is not a regular file");
        if (fd >= 0) close(fd);
        return OUT_NEXT;
    }
    enum outcome out =
        j->part.have && part_restart(&j->part, err) != STRETTO_OK ? OUT_STOP : OUT_DONE;
    struct http_answer a = { .status = 200, .total = (uint64_t)st.st_size, .framed = true };
    if (out == OUT_DONE) out = job_begin(j, &a, err);
    while (out == OUT_DONE) {
        ssize_t n = read(fd, block, sizeof block);
        if (n == 0) break;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            fail(err, STRETTO_E_IO, "cannot read %.200s: %s", path, strerror(errno));
            out = OUT_NEXT;
        } else
            out = job_write(j, block, (size_t)n, err);
    }
    close(fd);
    return out;
}

/* What a person can do about a refusal by the place that hf: names. */
void pull_explain(const struct pull *p, const char *repo, const char *shown, long status,
                  struct error *err)
{
    if (status != 401 && status != 403 && status != 404) return;
    error_clear(err);
    if (status == 404)
        fail(err, STRETTO_E_IO, "%s does not exist (HTTP 404): %s/%s shows what there is", shown,
             p->endpoint, repo);
    else if (!p->token)
        fail(err, STRETTO_E_IO,
             "%s does not exist or asks who you are (HTTP %ld): log in at %s/%s, accept "
             "its licence if it has one, make a token with read access and put it into HF_TOKEN",
             repo, status, p->endpoint, repo);
    else if (status == 401)
        fail(err, STRETTO_E_IO,
             "%s was refused (HTTP 401): the token in HF_TOKEN is not valid any more, "
             "or %s does not exist",
             shown, repo);
    else
        fail(err, STRETTO_E_IO,
             "%s is not open to your account (HTTP 403): log in at %s/%s and accept its "
             "licence; the token in HF_TOKEN needs read access to it",
             repo, p->endpoint, repo);
}

/* May the bytes that are there be gone on with? */
static bool may_resume(const struct job *j)
{
    const struct part *p = &j->part;
    if (!p->have || (j->bytes && p->have > j->bytes)) return false;
    if (j->sha256[0]) return true;
    return *p->validator && strcmp(p->source, j->source_id) == 0;
}

static enum outcome fetch(struct job *j, const struct place *place, double *wait, struct error *err)
{
    struct part *p = &j->part;
    if (place->kind == PLACE_FILE) return copy_file(j, place->at.data, err);
    if (p->have && !may_resume(j)) {
        bool vouched = *p->validator || strcmp(p->source, j->source_id) != 0;
        j->pull->note("%s: the part that is here is dropped, because %s", j->shown,
                     j->bytes && p->have > j->bytes ? "it is longer than the file"
                     : vouched ? "another source began it; with --sha256 this source could continue it"
                     : "the server does not say whether the file has changed; with --sha256 it could be continued");
        if (part_restart(p, err) != STRETTO_OK) return OUT_STOP;
    }
    if (p->have && p->have == j->bytes && j->sha256[0])
        return OUT_DONE; /* only the end was missing */
    bool same = strcmp(p->source, j->source_id) == 0;
    struct http_ask ask = {.url = place->at.data,
                           .token = place->kind == PLACE_HF ? j->pull->token : NULL,
                           .from = p->have,
                           .if_range = same ? p->validator : "",
                           .stall = j->pull->options->stall,
                           .stop = j->pull->stop};
    struct http_sink sink = { job_begin, job_write, j };
    struct http_answer a;
    enum outcome out = http_get(j->pull->http, &ask, &sink, &a, err);
    *wait = a.retry_after;
    if (a.status == 416 && p->have) {                /* there is nothing after what we have */
        error_clear(err);
        fail(err, STRETTO_E_IO, "%s has changed since the last time", j->shown);
        return OUT_AGAIN;
    }
    if (out == OUT_NEXT && place->kind == PLACE_HF && !a.away)
        pull_explain(j->pull, place->repo.data, j->shown, a.status, err);
    return out;
}

/* Nobody said what it should hash to; its name promises something all the same. */
static enum outcome check_content(struct job *j, struct error *err)
{
    unsigned char head[CONTENT_HEAD];
    ssize_t n = pread(j->part.fd, head, sizeof head, 0);
    if (n < 0) {
        fail(err, STRETTO_E_IO, "cannot read %s: %s", j->part.path, strerror(errno));
        return OUT_STOP;
    }
    if (content_check(j->file->name, head, (size_t)n, j->part.have, err) == STRETTO_OK) return OUT_DONE;
    return part_restart(&j->part, err) == STRETTO_OK ? OUT_NEXT : OUT_STOP;
}

/* It arrived; is it what it should be? */
static enum outcome verify(struct job *j, struct error *err)
{
    struct part *p = &j->part;
    uint64_t want = p->total ? p->total : j->bytes;
    if (want && p->have != want) {
        fail(err, STRETTO_E_IO, "%s ended after %llu of %llu bytes", j->shown,
             (unsigned long long)p->have, (unsigned long long)want);
        return OUT_RETRY;
    }
    part_sha256(p, j->result->sha256);
    if (!j->sha256[0]) return check_content(j, err);
    if (strcmp(j->sha256, j->result->sha256) == 0) return OUT_DONE;
    fail(err, STRETTO_E_FORMAT,
         "%s arrived whole but is not the file it should be: its sha256 is %s "
         "instead of %s",
         j->shown, j->result->sha256, j->sha256);
    bool resumed = j->started > 0;
    if (part_restart(p, err) != STRETTO_OK) return OUT_STOP;
    return resumed ? OUT_AGAIN : OUT_NEXT;
}

/* ---- one source ------------------------------------------------------------------------------ */

static bool sleep_for(const struct pull *p, double seconds)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    double end = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec + seconds;
    while (!*p->stop) {
        clock_gettime(CLOCK_MONOTONIC, &t);
        double left = end - (double)t.tv_sec - 1e-9 * (double)t.tv_nsec;
        if (left <= 0) return true;
        if (left > 0.2) left = 0.2;
        nanosleep(&(struct timespec){ .tv_nsec = (long)(left * 1e9) }, NULL);
    }
    return false;
}

/* The pause before try number `tries`; false when it is over because somebody interrupted. */
static bool pause_for(const struct pull *p, int64_t tries, double asked, const char *words)
{
    const struct pull_options *o = p->options;
    double pause = o->retry_wait, most = MAX_BACKOFF * o->retry_wait;
    for (int64_t i = 1; i < tries && pause < most; i++) pause *= 2;
    if (pause > most) pause = most;
    if (asked > pause) pause = asked;
    p->note("%s; trying again in %.1f s (%lld of %lld)", words, pause, (long long)tries,
           (long long)o->retries);
    return sleep_for(p, pause);
}

enum outcome pull_patiently(struct pull *p, const struct http_ask *ask,
                            const struct http_sink *sink, struct http_answer *a, struct error *err)
{
    for (int64_t tries = 1;; tries++) {
        error_clear(err);
        enum outcome out = http_get(p->http, ask, sink, a, err);
        if (out != OUT_RETRY) return out;
        if (tries > p->options->retries || a->retry_after > MAX_RETRY_AFTER_S) return OUT_NEXT;
        if (!pause_for(p, tries, a->retry_after, err->text)) {
            error_clear(err);
            fail(err, STRETTO_E_CANCEL, "interrupted");
            return OUT_STOP;
        }
    }
}

/* Attempts until the source has delivered, or has failed `retries` times in a row without a new
 * byte. */
static enum outcome try_source(struct job *j, const struct place *place, struct error *err)
{
    const struct pull_options *o = j->pull->options;
    uint64_t best = j->part.have;
    int64_t tries = 0;
    for (int again = 0;;) {
        double wait = 0;
        error_clear(err);
        j->started = j->part.have;
        enum outcome out = fetch(j, place, &wait, err);
        if (out == OUT_DONE) out = verify(j, err);
        if (out == OUT_AGAIN) {
            if (++again > MAX_AGAIN) return OUT_NEXT;
            if (part_restart(&j->part, err) != STRETTO_OK) return OUT_STOP;
            j->pull->note("%s; fetching it again from the beginning", err->text);
            best = 0;
            continue;
        }
        if (out != OUT_RETRY) return out;
        if (j->part.have > best) { best = j->part.have; tries = 0; }
        if (++tries > o->retries) return OUT_NEXT;
        if (wait > MAX_RETRY_AFTER_S) {
            j->pull->note("%s asks to come back in %.0f s", j->shown, wait);
            return OUT_NEXT;
        }
        if (!pause_for(j->pull, tries, wait, err->text)) {
            error_clear(err);
            fail(err, STRETTO_E_CANCEL, "interrupted");
            return OUT_STOP;
        }
    }
}

static enum outcome one_source(struct job *j, const char *spec, struct error *err)
{
    struct place place;
    url_show(j->shown, sizeof j->shown, spec);
    sha256_text(spec, j->source_id);
    if (place_open(&place, spec, j->pull->endpoint, err) != STRETTO_OK) return OUT_NEXT;
    enum outcome out = OUT_NEXT;
    if (place.kind == PLACE_HF && !place.file.len)
        fail(err, STRETTO_E_FORMAT, "%.200s names no file", spec);
    else if (place.kind != PLACE_FILE && j->pull->options->offline)
        fail(err, STRETTO_E_IO, "%s is not here, and --offline forbids fetching it", j->file->name);
    else
        out = try_source(j, &place, err);
    place_done(&place);
    return out;
}

/* ---- one file -------------------------------------------------------------------------------- */

/* Looks at a file that is there. *there says whether it is and whether it is the right one. */
static stretto_status check_present(struct pull *p, const struct pull_file *f,
                                    struct pull_result *r, bool *there, struct error *err)
{
    struct stat st;
    *there = false;
    if (stat(f->path, &st) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) return STRETTO_OK;
        return fail(err, STRETTO_E_IO, "cannot look at %s: %s", f->path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode))
        return fail(err, STRETTO_E_IO,
                    "%s exists and is not a file: choose another folder with --into", f->path);
    r->bytes = (uint64_t)st.st_size;
    if (f->bytes && r->bytes != f->bytes)
        return fail(err, STRETTO_E_IO,
                    "%s exists but has %llu bytes instead of %llu: --force replaces "
                    "it, --into takes another folder",
                    f->path, (unsigned long long)r->bytes, (unsigned long long)f->bytes);
    char what[120];
    snprintf(what, sizeof what, "checking %s", f->name);
    TRY(sha256_file(f->path, what, &p->progress, p->stop, r->sha256, err));
    if (f->sha256[0] && strcmp(f->sha256, r->sha256) != 0)
        return fail(err, STRETTO_E_IO,
                    "%s exists but its sha256 is %s instead of %s: --force replaces "
                    "it, --into takes another folder",
                    f->path, r->sha256, f->sha256);
    r->present = *there = true;
    r->verified = f->sha256[0] != '\0';
    return STRETTO_OK;
}

static void note_waiting(const char *final)
{
    fprintf(stderr, "stretto pull: another process is fetching %s: waiting for it\n", final);
}

static stretto_status from_sources(struct job *j, struct error *err)
{
    const struct pull_file *f = j->file;
    for (size_t i = 0; i < f->n_sources; i++) {
        struct error why = { 0 };
        enum outcome out = one_source(j, f->sources[i], &why);
        if (out == OUT_DONE) return STRETTO_OK;
        bool last = i + 1 == f->n_sources;
        if (out == OUT_STOP && why.status == STRETTO_E_CANCEL) {
            if (!j->part.have) return fail(err, STRETTO_E_CANCEL, "interrupted");
            return fail(err, STRETTO_E_CANCEL,
                        "interrupted: what arrived is kept in %s, and the same "
                        "command resumes there",
                        j->part.path);
        }
        if (out == OUT_STOP || last) return fail(err, why.status, "%s", why.text);
        j->pull->note("%s; trying the next source", why.text);
        /* What a source said about the file does not bind the next one. */
        strcpy(j->sha256, f->sha256);
        j->bytes = f->bytes;
    }
    return fail(err, STRETTO_E_FORMAT, "%s has no source", f->name);
}

static stretto_status fetch_locked(struct job *j, struct error *err)
{
    struct pull_result *r = j->result;
    if (j->pull->options->force && j->part.have) TRY(part_restart(&j->part, err));
    TRY(from_sources(j, err));
    r->bytes = j->part.have;
    r->resumed = j->started;
    r->verified = j->sha256[0] != '\0';
    memcpy(r->source, j->shown, sizeof r->source);
    return part_finish(&j->part, err);
}

stretto_status pull_file(struct pull *p, const struct pull_file *f, struct pull_result *r,
                         struct error *err)
{
    bool there = false;
    *r = (struct pull_result){ 0 };
    if (!p->options->force) TRY(check_present(p, f, r, &there, err));
    if (there) return STRETTO_OK;
    struct job j = { .pull = p, .file = f, .result = r, .bytes = f->bytes };
    strcpy(j.sha256, f->sha256);
    TRY(part_open(&j.part, f->path, p->stop, note_waiting, &p->progress, err));
    /* Whoever held the lock before us may have brought it. */
    stretto_status s = p->options->force ? STRETTO_OK : check_present(p, f, r, &there, err);
    if (s == STRETTO_OK && !there) s = fetch_locked(&j, err);
    part_close(&j.part);
    return s;
}
