/* Numbers as words for people. */
#ifndef BASE_WORDS_H
#define BASE_WORDS_H
#include <stdio.h>

/* "812 B", "91.9 MB", "1.45 GB"; decimal units. */
static inline const char *bytes_words(char text[24], double bytes)
{
    static const char unit[] = "kMGTPE";
    int u = -1;
    for (; bytes >= 999.95 && u < 5; u++) bytes /= 1000;
    if (u < 0) snprintf(text, 24, "%.0f B", bytes);
    else snprintf(text, 24, u > 1 ? "%.2f %cB" : "%.1f %cB", bytes, unit[u]);
    return text;
}
#endif
