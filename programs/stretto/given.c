#include "stretto/given.h"
#include "stretto/open.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- escapes --------------------------------------------------------------------------------- */

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that the escape behind a backslash stands for, and how many bytes spell it; 0: none. */
static size_t escape_at(const char *p, size_t n, char *byte)
{
    static const char from[] = "nrt'\"\\", to[] = "\n\r\t'\"\\";
    const char *at = n && *p ? strchr(from, *p) : NULL;
    if (at) {
        *byte = to[at - from];
        return 1;
    }
    if (n < 3 || *p != 'x' || hex(p[1]) < 0 || hex(p[2]) < 0) return 0;
    *byte = (char)(hex(p[1]) * 16 + hex(p[2]));
    return 3;
}

size_t unescape(char *text, size_t n)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        char byte = text[i];
        if (byte == '\\') i += escape_at(text + i + 1, n - i - 1, &byte);
        text[out++] = byte;
    }
    text[out] = '\0';
    return out;
}

int unescape_words(const char *command, const char *flag, const char *words)
{
    char *text = (char *)(uintptr_t)words;              /* of argv, which is ours to change */
    size_t n = unescape(text, strlen(text));
    return strlen(text) == n ? EXIT_DONE
                             : command_usage(command, "%s cannot hold \\x00 with -e", flag);
}

/* ---- standard input -------------------------------------------------------------------------- */

/* Whether somebody put something before this program: a pipe or a file, not a terminal, /dev/null or
 * nothing at all. */
static bool is_piped(void)
{
    struct stat st;
    if (fstat(STDIN_FILENO, &st) != 0) return false;
    return S_ISFIFO(st.st_mode) || S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode);
}

/* Programs that start others often leave them a pipe that nobody writes to and nobody closes. Waiting
 * for it is right, waiting without a word is not. */
static void tell_waiting(const char *command)
{
    struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
    if (poll(&in, 1, 2000) == 0)
        fprintf(stderr, "stretto %s: waiting for text on standard input; use '</dev/null' when "
                        "there is none\n", command);
}

/* One newline at the end is the shell's, not the text's. */
static void drop_newline(char *text, size_t *n)
{
    if (*n && text[*n - 1] == '\n') text[--*n] = '\0';
}

static char *piped_text(const char *command, size_t *n)
{
    if (!isatty(STDIN_FILENO)) tell_waiting(command);
    char *text = read_text(command, "-", n);
    if (text) drop_newline(text, n);
    return text;
}

/* ---- prompts and system messages ------------------------------------------------------------- */

static char *join(char *words, size_t n, const char *more, size_t m)
{
    char *text = realloc(words, n + m + 3);
    if (!text) {
        free(words);
        return NULL;
    }
    memcpy(text + n, "\n\n", 2);
    memcpy(text + n + 2, more, m + 1);
    return text;
}

static int words_and_pipe(const char *command, const struct given_prompt *g, char **text, size_t *n)
{
    *text = strdup(g->words);
    if (!*text) return command_fail(command, STRETTO_E_NOMEM, NULL);
    *n = strlen(*text);
    if (g->escape) *n = unescape(*text, *n);
    if (!is_piped()) return EXIT_DONE;
    size_t m = 0;
    char *more = piped_text(command, &m);
    if (!more) {
        free(*text);
        *text = NULL;
        return EXIT_FAILED;
    }
    if (m) {
        *text = join(*text, *n, more, m);
        *n += m + 2;
    }
    free(more);
    return *text ? EXIT_DONE : command_fail(command, STRETTO_E_NOMEM, NULL);
}

int prompt_given(const char *command, const struct given_prompt *g, char **text, size_t *length)
{
    *text = NULL;
    if (g->words && strcmp(g->words, "-") != 0) return words_and_pipe(command, g, text, length);
    if (g->file && !g->words) {
        *text = read_text(command, g->file, length);
        return *text ? EXIT_DONE : EXIT_FAILED;
    }
    if (!g->words && isatty(STDIN_FILENO))
        return command_usage(command, "a prompt is missing: -p TEXT, -f FILE or a pipe; 'stretto chat' "
                                      "begins a conversation");
    *text = piped_text(command, length);
    if (!*text) return EXIT_FAILED;
    if (*length) return EXIT_DONE;
    free(*text);
    *text = NULL;
    return command_usage(command, "a prompt is missing: -p TEXT or -f FILE, and standard input is empty");
}

int system_given(const char *command, const char *words, const char *file, bool escape, char **text)
{
    size_t n = 0;
    *text = NULL;
    if (words && file)
        return command_usage(command, "-sys and --system-file both give a system message; take one");
    if (words && escape) {
        int code = unescape_words(command, "-sys", words);
        if (code != EXIT_DONE) return code;
    }
    if (!words && !file) return EXIT_DONE;
    *text = words ? strdup(words) : read_text(command, file, &n);
    if (!*text) return words ? command_fail(command, STRETTO_E_NOMEM, NULL) : EXIT_FAILED;
    if (words) return EXIT_DONE;
    drop_newline(*text, &n);
    if (strlen(*text) == n) return EXIT_DONE;
    free(*text);
    *text = NULL;
    return command_fail(command, STRETTO_E_FORMAT, "the file of --system-file is not text: it holds a NUL byte");
}
