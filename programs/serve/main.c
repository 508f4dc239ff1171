/* stretto-serve: models over HTTP. A program of its own so that nothing else carries an HTTP library and TLS;
 * `stretto serve` starts it.
 *
 *   the socket is bound -> files and ports are closed off -> the server answers /health with "Loading model"
 *   while another thread opens the models -> calls of the kernel are closed off -> requests are answered */
#include "base/memory.h"
#include "decode/strategy.h"
#include "serve/exchange.h"
#include "serve/keys.h"
#include "serve/load.h"
#include "serve/notify.h"
#include "serve/sandbox.h"
#include "serve/server.h"
#include "serve/tls.h"
#include "stretto/command.h"
#include "stretto/open.h"
#include "stretto/peer_flags.h"
#include <errno.h>
#include <gnutls/gnutls.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the socket -------------------------------------------------------------------------------- */

struct place { int fd, port; bool loopback; char where[200]; };

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6
           && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

static void describe(struct place *p, const struct serve_options *o)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    char host[100] = "?", port[20] = "?";
    if (getsockname(p->fd, (struct sockaddr *)&a, &n) != 0) return;
    p->loopback = is_loopback((const struct sockaddr *)&a);
    getnameinfo((const struct sockaddr *)&a, n, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    p->port = (int)strtol(port, NULL, 10);
    snprintf(p->where, sizeof p->where, strchr(host, ':') ? "http%s://[%s]:%s" : "http%s://%s:%s",
             o->cert_file ? "s" : "", host, port);
}

static int try_address(const struct addrinfo *a)
{
    const int one = 1, zero = 0;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 1024) == 0) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static int bind_place(struct place *p, const struct serve_options *o)
{
    char port[20], words[300];
    struct addrinfo *list = NULL, hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    long handed;
    if ((p->fd = notify_socket(&handed)) >= 0) {
        if (handed > 1)
            return command_usage("serve", "%ld sockets were handed over, and one is listened at: name one ListenStream",
                                 handed);
        describe(p, o);
        return EXIT_DONE;
    }
    snprintf(port, sizeof port, "%d", (int)o->port);
    int r = getaddrinfo(*o->host ? o->host : NULL, port, &hints, &list);
    if (r != 0) return command_usage("serve", "--host %s is no address of this machine: %s", o->host, gai_strerror(r));
    int why = 0;
    for (const struct addrinfo *a = list; a && p->fd < 0; a = a->ai_next)
        if ((p->fd = try_address(a)) < 0) why = errno;
    freeaddrinfo(list);
    if (p->fd < 0) {
        snprintf(words, sizeof words, "cannot listen at %s port %s: %s%s", o->host, port, strerror(why),
                 why == EADDRINUSE ? "; another program does: --port takes another one, 0 any that is free" : "");
        return command_fail("serve", STRETTO_E_IO, words);
    }
    describe(p, o);
    return EXIT_DONE;
}

/* ---- models, on a thread of their own ---------------------------------------------------------- */

struct loading { struct served_list *models; const struct serve_options *options; struct server *server; };

static void close_calls(const struct serve_options *o)
{
    struct buffer words = buffer_make(1000);
    if (o->no_sandbox) return;
    sandbox_calls(&words);
    fprintf(stderr, "stretto serve: sandbox%s\n", words.data ? words.data : "");
    buffer_done(&words);
}

static void *load(void *arg)
{
    struct loading *l = arg;
    pthread_setname_np(pthread_self(), "models");      /* and so are the threads that it begins */
    bool well = load_all(l->models, l->options, server_wake, l->server) == EXIT_DONE;
    if (well) close_calls(l->options);
    atomic_store(&l->models->ready, well ? 1 : -1);
    server_loaded(l->server, well);
    if (well) load_on_demand(l->models, l->options, server_wake, l->server);
    return NULL;
}

/* ---- from options to a server ------------------------------------------------------------------ */

static int check_options(struct serve_options *o)
{
    struct decode_choice choice;
    struct error err = { 0 };
    if (o->decode && decode_parse(o->decode, &choice, &err) != STRETTO_OK)
        return command_usage("serve", "--decode: %s", err.text);
    const struct { const char *given, *option, *word; } companions[] = { { o->draft, "-md", "draft" },
                                                                         { o->heads, "--heads", "heads" } };
    for (size_t i = 0; i < 2; i++) {
        unsigned bit = 0;
        strategy_find(companions[i].word, strlen(companions[i].word), &bit);
        if (companions[i].given && o->decode && !choice.automatic && !(choice.strategies >> bit & 1))
            return command_usage("serve", "%s goes with --decode auto or %s, not with --decode %s",
                                 companions[i].option, companions[i].word, o->decode);
    }
    if (o->chat_template && o->chat_template_file)
        return command_usage("serve", "--chat-template and --chat-template-file exclude each other: take one");
    if (!o->cert_file != !o->key_file)
        return command_usage("serve", "--ssl-cert-file and --ssl-key-file go together");
    if (!o->api_key && !o->api_key_file) {
        const char *key = getenv("STRETTO_API_KEY");
        if (!key || !*key) key = getenv("LLAMA_API_KEY");
        if (key && *key) o->api_key = key;
    }
    return EXIT_DONE;
}

/* A file in parts ("name-00001-of-00003.gguf") stands beside the others. */
static bool in_parts(const char *path)
{
    static const char like[] = "-00000-of-00000.gguf";
    size_t n = strlen(path), cut = sizeof like - 1;
    for (size_t i = 0; n > cut && i < cut; i++) {
        char c = path[n - cut + i];
        if (like[i] == '0' ? c < '0' || c > '9' : c != like[i]) return false;
    }
    return n > cut;
}

static void folder_of(const char *path, char out[1024])
{
    const char *slash = strrchr(path, '/');
    snprintf(out, 1024, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
}

/* Cards need devices, drivers and caches that nobody can list: no rules for files there. */
static void close_files(const struct serve_options *o, const struct served_list *l, int port)
{
    const char *read[12], *models[SERVED_MOST * (1 + SERVED_ADAPTERS) + 1], *write[3];
    char parts[SERVED_MOST + 1][1024];
    struct sandbox s = { .read = read, .models = models, .write = write, .port = port };
    struct buffer words = buffer_make(1000);
    if (o->no_sandbox) return;
    const char *device = o->model.device ? o->model.device : getenv("STRETTO_DEVICE");
    if (device && strcmp(device, "cpu") != 0) {
        fprintf(stderr, "stretto serve: no rules for files: the drivers of cards open what they like\n");
        return;
    }
    for (size_t i = 0; i < l->n + (l->draft_path != NULL); i++) {
        const char *path = i < l->n ? l->v[i].path : l->draft_path;
        folder_of(path, parts[i]);
        models[s.n_models++] = in_parts(path) ? parts[i] : path;
    }
    for (size_t i = 0; i < l->n; i++)
        for (size_t k = 0; k < l->v[i].n_adapters + l->v[i].n_fixed; k++)
            models[s.n_models++] = l->v[i].adapter[k].path;
    if (o->heads) read[s.n_read++] = o->heads;
    if (o->chat_template_file) read[s.n_read++] = o->chat_template_file;
    const char *more[] = { o->api_key_file, o->cert_file, o->key_file, o->model.scales };
    char folders[2 * sizeof more / sizeof *more][1024];
    size_t n = 0;
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        char *meant = more[i] ? realpath(more[i], NULL) : NULL;
        /* Their folder, and that which a link leads to: a new file takes the place of the old one. */
        if (more[i]) folder_of(more[i], folders[n++]);
        if (meant) folder_of(meant, folders[n++]);
        free(meant);
    }
    for (size_t i = 0; i < n; i++) read[s.n_read++] = folders[i];
    if (o->disk) write[s.n_write++] = o->disk;
    if (o->slots) write[s.n_write++] = o->slots;
    sandbox_files(&s, &words);
    fprintf(stderr, "stretto serve: sandbox: %s\n", words.data ? words.data : "");
    buffer_done(&words);
}

/* A folder that is written to; one that is not there is made, or could be. */
static int check_folder(const char *option, const char *path, bool make)
{
    char above[1024], words[1400];
    struct stat st;
    if (!path) return EXIT_DONE;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) errno = ENOTDIR;
    else if (access(path, R_OK | W_OK | X_OK) == 0 || (errno == ENOENT && make && mkdir(path, 0700) == 0))
        return EXIT_DONE;
    else if (errno == ENOENT && !make) {
        snprintf(words, sizeof words, "%.1000s", path);
        for (size_t n = strlen(words); n > 1 && words[n - 1] == '/'; n--) words[n - 1] = '\0';
        folder_of(words, above);
        if (access(above, W_OK | X_OK) == 0) return EXIT_DONE;
    }
    snprintf(words, sizeof words, "%s %.1000s: %s: name a folder that this user may write to", option, path,
             strerror(errno));
    return command_fail("serve", STRETTO_E_IO, words);
}

static int check_folders(const struct serve_options *o)
{
    struct stat disk, slots;
    int code = check_folder("--cache-disk", o->disk, !o->check);
    if (code == EXIT_DONE) code = check_folder("--slot-save-path", o->slots, !o->check);
    if (code == EXIT_DONE && o->disk && o->slots && stat(o->disk, &disk) == 0 && stat(o->slots, &slots) == 0
        && disk.st_dev == slots.st_dev && disk.st_ino == slots.st_ino)
        return command_usage("serve", "--cache-disk and --slot-save-path are one folder: name two, because each has "
                             "bounds of its own");
    return code;
}

static int serve(const struct serve_options *o, struct served_list *models, const struct place *p)
{
    struct server_start start = { .options = o, .models = models, .listen_fd = p->fd, .where = p->where,
                                  .loopback = p->loopback };
    struct loading l = { .models = models, .options = o };
    struct error err = { 0 };
    pthread_t thread;
    notify_send("STATUS=loading\n");
    close_files(o, models, p->port);
    stretto_status s = server_open(&l.server, &start, &err);
    if (s != STRETTO_OK) return command_fail("serve", s, err.text);
    if (!server_has_keys(l.server) && !p->loopback)
        fprintf(stderr, "stretto serve: WARNING: everybody who reaches %s may ask: --api-key-file FILE wants a key\n",
                p->where);
    fprintf(stderr, "stretto serve: listening at %s\n", p->where);
    int code = pthread_create(&thread, NULL, load, &l) == 0 ? EXIT_DONE
                                                                : command_fail("serve", STRETTO_E_NOMEM, NULL);
    if (code == EXIT_DONE) {
        code = server_run(l.server);
        interrupted = 1;
        served_drain(models);
        pthread_join(thread, NULL);
    }
    load_close(models);
    server_close(l.server);
    return code;
}

/* Files that are read at the start and on SIGHUP. */
static int check_files(const struct serve_options *o)
{
    struct keys keys = { 0 };
    struct tls *tls = NULL;
    struct error err = { 0 };
    stretto_status s = keys_read(&keys, o->api_key, o->api_key_file, &err);
    if (s == STRETTO_OK && o->cert_file) s = tls_open(&tls, o->cert_file, o->key_file, &err);
    keys_done(&keys);
    tls_close(tls);
    return s == STRETTO_OK ? EXIT_DONE : command_fail("serve", s, err.text);
}

static int check(const struct serve_options *o, struct served_list *models, const struct place *p)
{
    int code = check_files(o);
    for (size_t i = 0; i < models->n && code == EXIT_DONE; i++) code = load_check(&models->v[i], o);
    if (code == EXIT_DONE) code = load_check_guessers(models, o);
    if (code == EXIT_DONE && o->disk)
        printf("pages: %s, %lld MB at most\n", o->disk, (long long)o->disk_mb);
    if (code == EXIT_DONE && o->slots)
        printf("saved texts: %s, %lld MB at most\n", o->slots, (long long)o->disk_mb);
    if (code == EXIT_DONE)
        printf("address: %s, %s, %s\n", p->where, p->loopback ? "this machine alone" : "reached over the network",
               o->api_key || o->api_key_file ? "with API keys" : "without a key");
    load_close(models);
    return code;
}

static int run(struct serve_options *o)
{
    static struct served_list models;
    struct place p = { .fd = -1 };
    int code = check_options(o);
    served_open(&models);
    if (code == EXIT_DONE) code = check_folders(o);
    if (code == EXIT_DONE) code = load_names(&models, o);
    if (code == EXIT_DONE) code = bind_place(&p, o);
    if (code != EXIT_DONE) return code;
    if (gnutls_global_init() < 0) return command_fail("serve", STRETTO_E_UNSUP, "GnuTLS does not start");
    return o->check ? check(o, &models, &p) : serve(o, &models, &p);
}

static const struct command command_here = {
    .name = "serve", .summary = "answer clients of the OpenAI, Anthropic and ollama APIs over HTTP",
    .operands = "[MODEL]", .max_operands = 1,
    .description = serve_description, .uses = serve_uses, .n_uses = SERVE_USES,
    .options_size = sizeof(struct serve_options), .defaults = serve_options_defaults, .unknown = peer_flag,
};
const struct command *const command_table[] = { &command_here, NULL };

/* glibc keeps freed blocks for each thread and size. Those few lie between the blocks of a thousand connections and
 * keep them apart: 1,000 streams again and again grew by 12 to 20 MB each time, without them by nothing. The switch is
 * read when a program starts. Large blocks, such as those of jobs, go back to the kernel when they are freed. */
static void steady_heap(char **argv)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    const char *set = getenv("GLIBC_TUNABLES");
    char words[1000];
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
    pthread_setname_np(pthread_self(), "stretto-serve");
    if (set && strstr(set, "tcache_count")) return;
    snprintf(words, sizeof words, "%.900s%sglibc.malloc.tcache_count=0", set ? set : "", set && *set ? ":" : "");
    if (setenv("GLIBC_TUNABLES", words, 1) == 0) execv("/proc/self/exe", argv);
#else
    (void)argv;
#endif
}

int main(int argc, char **argv)
{
    static struct serve_options o;
    size_t n;
    bool help;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("stretto-serve %s\n", STRETTO_VERSION);
        return EXIT_DONE;
    }
    steady_heap(argv);
    serve_options_defaults(&o);
    exchange_setup();
    int code = command_parse(&command_here, argc - 1, argv + 1, &o, &n, &help);
    if (code == EXIT_DONE && help) command_help(&command_here);
    else if (code == EXIT_DONE && n && o.models.n)
        code = command_usage("serve", "MODEL and -m both name models: take -m for each of them");
    else if (code == EXIT_DONE) {
        if (n) o.models.v[o.models.n++] = argv[1];
        code = run(&o);
    }
    return code;
}
