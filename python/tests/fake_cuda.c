/* A libcuda over host memory, and a cruel one: copies happen when their stream is waited for and not
 * before, only from pinned memory, only into memory that was allocated, and only in a context. What is
 * not given back is counted. FAKE_CUDA_BYTES bounds the memory of the device. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_CONTEXT = 201 };
#define MOST 4096

struct range { char *at; size_t bytes; int used; };
struct copy { char *to; const char *from; size_t bytes; struct copy *next; };
struct stream { struct copy *first, *last; };

static struct range device[MOST], pinned[MOST];
static size_t taken;
static int contexts, streams, depth, copies;

static int find(struct range *all, const char *at, size_t bytes) {
    for (int i = 0; i < MOST; i++)
        if (all[i].used && at >= all[i].at && at + bytes <= all[i].at + all[i].bytes) return i;
    return -1;
}

static int take(struct range *all, size_t bytes, char **out) {
    for (int i = 0; i < MOST; i++)
        if (!all[i].used) {
            all[i] = (struct range){malloc(bytes), bytes, 1};
            memset(all[i].at, 0xee, bytes);
            *out = all[i].at;
            return OK;
        }
    return OUT_OF_MEMORY;
}

static int give(struct range *all, char *at) {
    int i = find(all, at, 1);
    if (i < 0 || all[i].at != at) return INVALID;
    free(at);
    all[i].used = 0;
    return OK;
}

/* What a test asks: everything that is not given back; and how many copies were made. */
int fake_left(void) {
    int left = contexts + streams + depth;
    for (int i = 0; i < MOST; i++) left += device[i].used + pinned[i].used;
    return left;
}
int fake_copies(void) { return copies; }

int cuInit(unsigned flags) { return flags ? INVALID : OK; }
int cuGetErrorString(int code, const char **out) {
    *out = code == OUT_OF_MEMORY ? "out of memory" : code == NO_CONTEXT ? "invalid device context" : "fake";
    return OK;
}
int cuDeviceGetCount(int *out) { return *out = 1, OK; }
int cuDeviceGet(int *out, int number) { return number ? INVALID : (*out = 7, OK); }
int cuDevicePrimaryCtxRetain(void **out, int of) {
    return of == 7 ? (contexts++, *out = &contexts, OK) : INVALID;
}
int cuDevicePrimaryCtxRelease_v2(int of) { return of == 7 ? (contexts--, OK) : INVALID; }
int cuCtxPushCurrent_v2(void *context) { return context == &contexts ? (depth++, OK) : INVALID; }
int cuCtxPopCurrent_v2(void **out) { return depth ? (depth--, *out = &contexts, OK) : NO_CONTEXT; }

int cuMemAlloc_v2(uint64_t *out, size_t bytes) {
    const char *most = getenv("FAKE_CUDA_BYTES");
    char *at;
    if (!depth) return NO_CONTEXT;
    if (!bytes) return INVALID;
    if (most && taken + bytes > strtoull(most, 0, 10)) return OUT_OF_MEMORY;
    int code = take(device, bytes, &at);
    if (code == OK) taken += bytes, *out = (uint64_t)(uintptr_t)at;
    return code;
}
int cuMemFree_v2(uint64_t at) {
    int i = find(device, (char *)(uintptr_t)at, 1);
    if (!depth) return NO_CONTEXT;
    if (i >= 0) taken -= device[i].bytes;
    return give(device, (char *)(uintptr_t)at);
}
int cuMemHostAlloc(void **out, size_t bytes, unsigned flags) {
    if (!depth) return NO_CONTEXT;
    return flags ? INVALID : take(pinned, bytes, (char **)out);
}
int cuMemFreeHost(void *at) { return depth ? give(pinned, at) : NO_CONTEXT; }

int cuStreamCreate(void **out, unsigned flags) {
    if (!depth || flags) return INVALID;
    streams++;
    *out = calloc(1, sizeof(struct stream));
    return OK;
}
int cuStreamSynchronize(struct stream *stream) {
    if (!depth) return NO_CONTEXT;
    while (stream->first) {
        struct copy *copy = stream->first;
        memcpy(copy->to, copy->from, copy->bytes);
        copies++;
        stream->first = copy->next;
        free(copy);
    }
    return OK;
}
int cuStreamDestroy_v2(struct stream *stream) {
    if (!depth || stream->first) return INVALID;
    streams--;
    free(stream);
    return OK;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, struct stream *stream) {
    if (!depth) return NO_CONTEXT;
    if (find(pinned, from, bytes) < 0 || find(device, (char *)(uintptr_t)to, bytes) < 0) return INVALID;
    struct copy *copy = malloc(sizeof *copy);
    *copy = (struct copy){(char *)(uintptr_t)to, from, bytes, 0};
    if (stream->first) stream->last->next = copy;
    else stream->first = copy;
    stream->last = copy;
    return OK;
}
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    if (!depth) return NO_CONTEXT;
    if (find(device, (char *)(uintptr_t)from, bytes) < 0) return INVALID;
    memcpy(to, (char *)(uintptr_t)from, bytes);
    return OK;
}
