#include "stretto/serve_options.h"

#define AT(field) offsetof(struct serve_options, field)
static const struct option rows[] = {
    { "-m --model", "[NAME=]MODEL", OPT_TEXTS, AT(models), 0, 0,
      "a GGUF file, a Hugging Face folder, a name that 'stretto models' lists, or hf:USER/REPO[:QUANT]; given "
      "several times, requests choose by NAME [the default model]" },
    { "--models-max", "N", OPT_INT, AT(models_max), 0, 16,
      "models whose weights are in memory at once; of others they come with the next request, for those of the model "
      "that was asked for longest ago; 0 is all [0]" },
    { "--sleep-idle-seconds", "S", OPT_REAL, AT(sleep), 0, 1e9,
      "give a model's memory back when nobody has asked for it for so long; it comes back with the next request; 0 is "
      "never [0]" },
    { "-a --alias", "NAME,...", OPT_TEXT, AT(alias), 0, 0, "further names of the first model" },
    { "--tags", "WORD,...", OPT_TEXT, AT(tags), 0, 0, "words that /v1/models says of the first model" },
    { "--chat-template", "TEXT", OPT_TEXT, AT(chat_template), 0, 0,
      "the Jinja template of conversations, instead of the models' own" },
    { "--chat-template-file", "FILE", OPT_TEXT, AT(chat_template_file), 0, 0, "the same from a file" },
    { "--reasoning", "on|off|auto", OPT_CHOICE, AT(reasoning), 0, 0,
      "whether models whose template knows of it think before they answer, where a request does not say [auto]" },
    { "--ignore-tools", NULL, OPT_FLAG, AT(ignore_tools), 0, 0,
      "answer requests that bring tools, though none is ever called, and name them in X-Stretto-Ignored; otherwise "
      "they are refused with status 501 unless tool_choice is none" },
    { "--host", "ADDRESS", OPT_TEXT, AT(host), 0, 0,
      "the address to listen at; 0.0.0.0 or :: is every network of this machine, where a key is wanted [127.0.0.1]" },
    { "--port", "N", OPT_INT, AT(port), 0, 65535, "the port; 0 takes a free one and prints it [8080]" },
    { "--api-key", "KEY,...", OPT_TEXT, AT(api_key), 0, 0,
      "answer only who sends one of these keys; others on this machine can see it: better --api-key-file" },
    { "--api-key-file", "FILE", OPT_TEXT, AT(api_key_file), 0, 0,
      "the same, a key for each line, read again on SIGHUP" },
    { "--ssl-cert-file", "FILE", OPT_TEXT, AT(cert_file), 0, 0,
      "speak TLS with this certificate chain (PEM), read again on SIGHUP" },
    { "--ssl-key-file", "FILE", OPT_TEXT, AT(key_file), 0, 0, "its private key (PEM)" },
    { "--cors-origins", "ORIGIN,...", OPT_TEXT, AT(cors), 0, 0,
      "web pages of these origins may ask, as in https://chat.example; * is all of them, localhost those of this "
      "machine [none but the server's own]" },
    { "-np --parallel", "N", OPT_INT, AT(parallel), 1, 4096, "requests that are answered at once; others wait [16]" },
    { "--pool", "TOKENS", OPT_INT, AT(pool), 0, 1 << 30,
      "tokens that all of them together have in the cache; where that is less than what each may have, some are set "
      "aside and go on later; 0 is all, or what fits [0]" },
    { "-n --n-predict --predict", "N", OPT_INT, AT(predict), -1, 1 << 24,
      "tokens of answers to requests that do not say; -1 is no limit but the context [-1]" },
    { "-b --batch-size", "N", OPT_INT, AT(batch), 0, 1 << 16,
      "tokens that one step reads at most, whatever the goal; 0 means 512 [0]" },
    { "--pooling", "none|mean|cls|last", OPT_CHOICE, AT(pooling), 0, 0,
      "how texts become vectors; none: one for each token, by /embeddings alone [as the model's file says]" },
    { "--goal", "latency|throughput", OPT_CHOICE, AT(goal), 0, 0,
      "what long prompts may cost others: little, or what serves most tokens per second [latency]" },
    { "--queue", "N", OPT_INT, AT(queue), 0, 100000,
      "requests that may wait; further ones are told when to come again; 0 means 256 [0]" },
    { "--decode", "STRATEGY", OPT_STRATEGIES, AT(decode), 0, 0,
      "the strategy for writing several tokens per step: %s, or several joined by +; the text is the same [auto]" },
    { "-md --model-draft", "MODEL", OPT_TEXT, AT(draft), 0, 0,
      "a smaller model that guesses for all requests, for --decode auto or draft" },
    { "--heads", "FILE", OPT_TEXT, AT(heads), 0, 0,
      "a safetensors file of heads that guess (Medusa), for --decode auto or heads" },
    { "--cache-ram", "MB", OPT_INT, AT(cache_mb), 0, 1 << 24,
      "memory for what texts that begin alike share; 0 takes what is left [0]" },
    { "--cache-disk", "DIR", OPT_TEXT, AT(disk), 0, 0,
      "a folder where what was read is kept for the next start; it holds pieces of your texts" },
    { "--cache-disk-size", "MB", OPT_INT, AT(disk_mb), 1, 1 << 24, "bytes of that folder at most [4096]" },
    { "--slot-save-path", "DIR", OPT_TEXT, AT(slots), 0, 0,
      "a folder for texts that clients save and restore by /slots/N?action=save|restore|erase; it holds their texts" },
    { "--lora-init-without-apply", NULL, OPT_FLAG, AT(lora_later), 0, 0,
      "adapters without a name act where a request or /lora-adapters says so alone" },
    { "--body-limit", "MB", OPT_INT, AT(body), 1, 1024, "largest request [32]" },
    { "--connections", "N", OPT_INT, AT(connections), 1, 60000, "connections at once [4096]" },
    { "--connections-peer", "N", OPT_INT, AT(connections_peer), 0, 60000,
      "connections of one address at once; 0 is no limit, as behind a proxy [0]" },
    { "--sse-ping-interval", "S", OPT_REAL, AT(ping), 0.1, 3600,
      "seconds after which a silent stream gets a comment, so that nobody takes it for dead [10]" },
    { "--stall", "S", OPT_REAL, AT(stall), 1, 3600,
      "give up a client that reads nothing, or sends nothing of a request, for this many seconds [30]" },
    { "--drain-timeout", "S", OPT_REAL, AT(drain), 0, 3600,
      "after SIGTERM, seconds for the answers that are being written [30]" },
    { "--log-json", NULL, OPT_FLAG, AT(log_json), 0, 0, "one JSON line for each request on standard error" },
    { "--strict-api", NULL, OPT_FLAG, AT(strict_api), 0, 0,
      "refuse fields that are not known; otherwise the answer names them in X-Stretto-Ignored" },
    { "--no-ui --no-webui", NULL, OPT_FLAG, AT(no_ui), 0, 0, "no page at /" },
    { "--no-slots", NULL, OPT_FLAG, AT(no_slots), 0, 0, "no /slots, which tells who is being answered" },
    { "--no-metrics", NULL, OPT_FLAG, AT(no_metrics), 0, 0, "no /metrics" },
    { "--no-sandbox", NULL, OPT_FLAG, AT(no_sandbox), 0, 0,
      "keep the rights to open files and start programs; for debuggers" },
    { "--check", NULL, OPT_FLAG, AT(check), 0, 0,
      "say what would be loaded, the memory it takes and the address, and stop" },
};
#undef AT
const struct option_group group_serve = { "Serving", rows, sizeof rows / sizeof *rows };

const struct option_use serve_uses[SERVE_USES] = {
    { &group_serve, 0 },
    { &group_models, offsetof(struct serve_options, model) },
    { &group_sampling, offsetof(struct serve_options, sampling) },
};

const char serve_missing[] = "It is built where libmicrohttpd and GnuTLS are (Debian: libmicrohttpd-dev, "
    "libgnutls28-dev); build again once they are installed";

const char serve_description[] =
    "Answers HTTP requests of the clients of OpenAI's API, and of others', with one or several models. The options "
    "of sampling are the defaults of requests that do not say.\n\n"
    "  stretto serve -m MODEL\n"
    "  curl -d '{\"prompt\":\"Hello\"}' \\\n"
    "    127.0.0.1:8080/v1/completions\n\n"
    "It listens on this machine alone unless --host says otherwise. SIGTERM and Ctrl-C let the answers that are being "
    "written end (--drain-timeout), a second one does not; SIGHUP reads keys and certificates again. A listening "
    "socket that systemd hands over (LISTEN_FDS) is used instead of --host and --port, and READY=1 is said to "
    "NOTIFY_SOCKET once the models are there.\n\n"
    "The environment variables STRETTO_API_KEY and LLAMA_API_KEY are read where neither --api-key nor --api-key-file "
    "is given.";

void serve_options_defaults(void *options)
{
    struct serve_options *o = options;
    *o = (struct serve_options){ .host = "127.0.0.1", .port = 8080, .parallel = 16, .body = 32, .connections = 4096,
                                 .ping = 10, .drain = 30, .stall = 30, .disk_mb = 4096, .goal = "latency",
                                 .reasoning = "auto", .predict = -1 };
    model_options_defaults(&o->model);
    sampling_options_defaults(&o->sampling);
}
