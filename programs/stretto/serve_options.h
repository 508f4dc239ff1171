/* Options of `stretto serve`, shared by the command (which shows them in its help) and by the program
 * that does the work. */
#ifndef STRETTO_SERVE_OPTIONS_H
#define STRETTO_SERVE_OPTIONS_H
#include "stretto/options.h"

struct serve_options {
    struct text_list models;             /* "path" or "name=path"                                   */
    const char *alias, *tags;            /* further names of the first model, by commas; or NULL    */
    const char *host, *api_key, *api_key_file, *cert_file, *key_file, *cors, *goal, *decode, *pooling, *reasoning;
    int64_t port, models_max, parallel, pool, batch, predict, queue, body, connections, connections_peer;
    double ping, drain, stall, sleep;    /* seconds                                                 */
    bool check, log_json, strict_api, no_slots, no_metrics, no_ui, no_sandbox, ignore_tools, lora_later;
    const char *chat_template, *chat_template_file;
    const char *draft, *heads;           /* what guesses: a smaller model, a file of layers; or NULL */
    const char *slots;                   /* folder of texts that clients save; or NULL              */
    const char *disk;                    /* folder of pages that outlive the program; or NULL       */
    int64_t disk_mb, cache_mb;
    struct model_options model;
    struct sampling_options sampling;    /* of requests that do not say                             */
};

extern const struct option_group group_serve;
extern const char serve_description[], serve_missing[];
enum { SERVE_USES = 3 };
extern const struct option_use serve_uses[SERVE_USES];
void serve_options_defaults(void *options);
#endif
