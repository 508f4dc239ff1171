/* What is closed off is closed: a child of the test goes into the sandbox and tries. */
#include "unit/unit.h"
#include "serve/sandbox.h"
#include "serve/sandbox.c"
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { READS = 1, SECRET = 2, WRITES = 4, ELSEWHERE = 8, SOCKET = 16, PROGRAM = 32, BINDS = 64, KILLS = 128 };

static char folder[] = "/tmp/stretto-sandbox-XXXXXX";

static void put(const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    if (f) fclose(f);
}

static bool can_open(const char *name, int flags)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, flags, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static bool can_bind(int fd)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    a.sin_port = htons(1025);
    return bind(fd, (const struct sockaddr *)&a, sizeof a) == 0 || errno != EACCES;
}

/* What it still can do, in bits; -1: there is no landlock here. */
static int inside(bool calls)
{
    char model[200], cache[200];
    const char *read[] = { model }, *write[] = { cache };
    struct sandbox s = { .read = read, .n_read = 1, .write = write, .n_write = 1, .port = 8080 };
    struct buffer words = buffer_make(1000);
    snprintf(model, sizeof model, "%s/model", folder);
    snprintf(cache, sizeof cache, "%s/cache", folder);
    int fd = socket(AF_INET, SOCK_STREAM, 0), parent = getppid();
    if (sandbox_files(&s, &words) != STRETTO_OK || !strstr(words.data, "landlock")
        || strstr(words.data, "no landlock") || strstr(words.data, "refuses"))
        return -1;
    bool ports = strstr(words.data, "ports") != NULL, signals = strstr(words.data, "signals") != NULL;
    if (calls && sandbox_calls(&words) != STRETTO_OK) return -1;
    if (calls && strstr(words.data, "no seccomp")) return -1;
    int can = can_open("model", O_RDONLY) ? READS : 0;
    can |= can_open("secret", O_RDONLY) ? SECRET : 0;
    can |= can_open("cache/new", O_WRONLY | O_CREAT) ? WRITES : 0;
    can |= can_open("new", O_WRONLY | O_CREAT) || can_open("model", O_WRONLY) ? ELSEWHERE : 0;
    can |= ports && can_bind(fd) ? BINDS : 0;
    can |= signals && kill(parent, 0) == 0 ? KILLS : 0;
    can |= socket(AF_INET, SOCK_STREAM, 0) >= 0 ? SOCKET : 0;
    if (calls) {
        char name[] = "true", *argv[] = { name, NULL };
        execv("/bin/true", argv);              /* would end with 0 */
    }
    return can;
}

static int try_inside(bool calls)
{
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int can = inside(calls);
        _exit(can < 0 ? 254 : can);
    }
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return -2;
    return WEXITSTATUS(status) == 254 ? -1 : WEXITSTATUS(status);
}

static void test_files(void **state)
{
    (void)state;
    int can = try_inside(false);
    if (can == -1) { printf("this kernel has no landlock\n"); return; }
    assert_int_equal(can, READS | WRITES | SOCKET);
}

static void test_calls(void **state)
{
    (void)state;
    int can = try_inside(true);
    if (can == -1) { printf("this kernel has no landlock or no seccomp\n"); return; }
    assert_int_equal(can, READS | WRITES);
}

int main(void)
{
    char path[200];
    if (!mkdtemp(folder)) SKIP("no folder for files");
    put("model");
    put("secret");
    snprintf(path, sizeof path, "%s/cache", folder);
    mkdir(path, 0700);
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_files), cmocka_unit_test(test_calls) };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(path, sizeof path, "rm -rf %s", folder);
    return system(path) == 0 ? failed : 1;
}
