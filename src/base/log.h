/* Words for people that are not errors: what was chosen, what is slow, what was left out. The
 * library never prints; whoever opened the handle decides where the sentences go. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN };

struct log {
    /* One whole sentence, no newline at its end; `text` is gone when the call returns. */
    void (*say)(void *ud, enum log_level level, const char *text);
    void *ud;
    enum log_level least;              /* quieter ones are not even formatted */
};

/* l may be NULL, or all zero: nobody is listening. Sentences over 1000 bytes are cut. */
__attribute__((format(printf, 3, 4)))
void log_say(const struct log *l, enum log_level level, const char *fmt, ...);
#endif
