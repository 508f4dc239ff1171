/* NVRTC's and NVML's part of the mock: see mock.h. What is compiled stays source, once OpenCL has taken it. */
#include "gpu/mock_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MOCKS(name, ...) EXPORT cuda_status name(__VA_ARGS__); EXPORT cuda_status name(__VA_ARGS__)

struct _nvrtcProgram { char *source, *image, *log; bool exact; };

MOCKS(nvrtcVersion, int *major, int *minor)
{
    *major = (int)(mock.nvrtc / 10);
    *minor = (int)(mock.nvrtc % 10);
    return ABI_NVRTC_SUCCESS;
}

/* 75, 76 ...: more than there are, which is as good. */
MOCKS(nvrtcGetNumSupportedArchs, int *n)
{
    *n = (int)(mock.newest - mock.oldest + 1);
    return ABI_NVRTC_SUCCESS;
}

MOCKS(nvrtcGetSupportedArchs, int *archs)
{
    for (int64_t a = mock.oldest; a <= mock.newest; a++) *archs++ = (int)a;
    return ABI_NVRTC_SUCCESS;
}

MOCKS(nvrtcCreateProgram, struct _nvrtcProgram **out, const char *source, const char *name, int n,
      const char *const *headers, const char *const *names)
{
    (void)name; (void)headers; (void)names;
    if (n) return ABI_NVRTC_ERROR_INVALID_INPUT;
    if (mock_take_fails()) return ABI_NVRTC_ERROR_OUT_OF_MEMORY;
    *out = calloc(1, sizeof **out);
    (*out)->source = strdup(source);
    mock.alive.programs++;
    return ABI_NVRTC_SUCCESS;
}

MOCKS(nvrtcDestroyProgram, struct _nvrtcProgram **p)
{
    free((*p)->source);
    free((*p)->image);
    free((*p)->log);
    free(*p);
    *p = NULL;
    mock.alive.programs--;
    return ABI_NVRTC_SUCCESS;
}

/* What a kernel's meaning hangs on must be asked for; what is no -D must be known. */
static bool options_right(int n, const char *const *options, bool *exact)
{
    static const char *const known[] = { "--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true",
                                         "--prec-sqrt=true" };
    unsigned seen = 0;
    int arch = 0;
    for (int i = 0; i < n; i++) {
        size_t k = 0;
        while (k < 5 && strcmp(options[i], known[k])) k++;
        if (k < 5) seen |= 1u << k;
        else if (sscanf(options[i], "--gpu-architecture=sm_%d", &arch) == 1) *exact = true;
        else if (sscanf(options[i], "--gpu-architecture=compute_%d", &arch) == 1) *exact = false;
        else if (strncmp(options[i], "-D", 2)) return false;
    }
    return (seen & 30) == 30 && arch >= mock.oldest && arch <= mock.newest && (!*exact || arch == mock.arch);
}

/* "-DNAME=VALUE ...", the words of options that are such. */
static char *words_of(int n, const char *const *options)
{
    size_t bytes = 1;
    for (int i = 0; i < n; i++) bytes += strlen(options[i]) + 1;
    char *words = calloc(bytes, 1);
    for (int i = 0; i < n; i++)
        if (!strncmp(options[i], "-D", 2)) strcat(strcat(words, options[i]), " ");
    return words;
}

MOCKS(nvrtcCompileProgram, struct _nvrtcProgram *p, int n, const char *const *options)
{
    if (!options_right(n, options, &p->exact)) return ABI_NVRTC_ERROR_INVALID_OPTION;
    if (mock_take_fails()) return ABI_NVRTC_ERROR_OUT_OF_MEMORY;
    char *words = words_of(n, options);
    if (mock.bad_source) p->log = strdup("stretto.cu(1): error: the mock does not like this source");
    else if (mock_compiles(p->source, words, &p->log)) {
        p->image = calloc(sizeof MOCK_IMAGE + strlen(words) + strlen(p->source) + 2, 1);
        strcat(strcat(strcat(strcat(p->image, MOCK_IMAGE), words), "\n"), p->source);
    }
    free(words);
    return p->image ? ABI_NVRTC_SUCCESS : ABI_NVRTC_ERROR_COMPILATION;
}

MOCKS(nvrtcGetProgramLogSize, struct _nvrtcProgram *p, size_t *n)
{
    *n = p->log ? strlen(p->log) + 1 : 1;
    return ABI_NVRTC_SUCCESS;
}

MOCKS(nvrtcGetProgramLog, struct _nvrtcProgram *p, char *log)
{
    strcpy(log, p->log ? p->log : "");
    return ABI_NVRTC_SUCCESS;
}

static cuda_status size_of(const struct _nvrtcProgram *p, bool exact, size_t *n)
{
    if (!p->image || p->exact != exact) return ABI_NVRTC_ERROR_INVALID_INPUT;
    *n = strlen(p->image) + 1;
    return ABI_NVRTC_SUCCESS;
}

static cuda_status image_of(const struct _nvrtcProgram *p, bool exact, char *image)
{
    size_t n = 0;
    cuda_status s = size_of(p, exact, &n);
    if (!s) memcpy(image, p->image, n);
    return s;
}

MOCKS(nvrtcGetCUBINSize, struct _nvrtcProgram *p, size_t *n) { return size_of(p, true, n); }
MOCKS(nvrtcGetCUBIN, struct _nvrtcProgram *p, char *image) { return image_of(p, true, image); }
MOCKS(nvrtcGetPTXSize, struct _nvrtcProgram *p, size_t *n) { return size_of(p, false, n); }
MOCKS(nvrtcGetPTX, struct _nvrtcProgram *p, char *image) { return image_of(p, false, image); }

/* ---- NVML: every kernel that ran took two joules --------------------------------------------------- */

MOCKS(nvmlInit_v2, void) { return 0; }

MOCKS(nvmlDeviceGetHandleByPciBusId_v2, const char *bus, struct nvmlDevice_st **out)
{
    static char meter;
    if (strncmp(bus, "0000:", 5)) return 6;
    *out = (struct nvmlDevice_st *)(void *)&meter;
    return 0;
}

MOCKS(nvmlDeviceGetTotalEnergyConsumption, struct nvmlDevice_st *d, unsigned long long *mj)
{
    (void)d;
    *mj = 2000 * (unsigned long long)mock.runs;
    return 0;
}
