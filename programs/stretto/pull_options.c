#include "stretto/pull_options.h"

#define AT(field) offsetof(struct pull_options, field)
static const struct option rows[] = {
    { "--into", "DIR", OPT_TEXT, AT(into), 0, 0,
      "the folder to put models into [${XDG_CACHE_HOME:-~/.cache}/stretto/models]" },
    { "--as", "NAME", OPT_TEXT, AT(as), 0, 0, "the file name to give to a single file" },
    { "--sha256", "HEX", OPT_TEXT, AT(sha256), 0, 0, "the hash that a single file must have" },
    { "--offline", NULL, OPT_FLAG, AT(offline), 0, 0,
      "use no network: check the files that are here, use only file: sources" },
    { "--force", NULL, OPT_FLAG, AT(force), 0, 0,
      "fetch again from the beginning, and replace the old file once the new one is whole" },
    { "--json", NULL, OPT_FLAG, AT(json), 0, 0, "print what was fetched as one JSON value" },
    { "-q --quiet", NULL, OPT_FLAG, AT(quiet), 0, 0, "show no progress" },
    { "--retries", "N", OPT_INT, AT(retries), 0, 1000,
      "how often to retry a source while no new byte arrives [5]" },
    { "--retry-wait", "S", OPT_REAL, AT(retry_wait), 0, 3600,
      "seconds before the first retry; each further wait is twice as long, up to 30 times [1]" },
    { "--stall", "S", OPT_REAL, AT(stall), 1, 3600,
      "give up a connection that brings less than 1 kB/s for this many seconds [30]" },
};
#undef AT
const struct option_group group_pull = { "Options", rows, sizeof rows / sizeof *rows };

const char pull_description[] =
    "A MODEL is a name of the catalogue ('stretto models' lists them), "
    "hf:USER/REPO[/FILE][:QUANT][@REVISION],\n"
    "an https: address or a file: path; without one the default model is fetched. Of several GGUF files\n"
    "in a repository :QUANT names one, as in hf:USER/REPO:Q8_0; without it the one of Q4_K_M is taken.\n"
    "Prints the path of the model. What arrives is checked against its size and sha256 where they are known, and only "
    "a\n"
    "whole file gets its final name. After Ctrl-C, a cut connection or a full disk the part that\n"
    "arrived stays in FILE.part, and the same command resumes there.\n"
    "Environment: HF_TOKEN, HF_TOKEN_PATH, HF_HOME and HF_ENDPOINT for hf: sources, https_proxy "
    "and\n"
    "no_proxy, SSL_CERT_FILE, XDG_CACHE_HOME.";

void pull_options_defaults(void *options)
{
    *(struct pull_options *)options =
        (struct pull_options){.retries = 5, .retry_wait = 1, .stall = 30};
}
