/* A libcuda without a GPU, cruel where a real one may be: copies happen as late as they can, freed
 * memory is found out about, exports must be aligned, a failed copy breaks the context for good.
 * What a program must never do is written down as a violation.
 *
 * Device memory is a memfd; its addresses are no addresses of this process. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ARENA (512u << 20)
#define BASE 0x700000000ull
#define MANY 4096
/* cuMemAlloc aligns to this at least, not to a page. */
#define ALIGN 512
#define INVALID_VALUE 1
#define OUT_OF_MEMORY 2
#define INVALID_CONTEXT 201
#define INVALID_HANDLE 400
#define NOT_READY 600

typedef unsigned int result;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int initialised, memfd = -1, devices = 2, dmabuf = 1, sticky;
static uint64_t page = 4096, export_max = ~0ull, next_id = 1, sequence, reached;
static char *arena;
static char violations[4096];

/* What a test told to fail: the call, with what, after how many that go well. */
static struct { char call[64]; int code, after; } failure;
static struct { uint64_t at, size, id; int sync; } allocations[MANY];
static struct { char *at; size_t size; } pins[MANY];
static struct copy { int used, to_device; void *host; uint64_t device; size_t size;
                     void *stream; uint64_t number, id; } copies[MANY];
struct stream { int live; };
struct event { int live, patience; uint64_t number; struct stream *stream; };
struct context { int retained; };
static struct context contexts[2];
static int live_streams, live_events, exports, patience = 3;
static __thread struct context *stack[16];
static __thread int depth;

static void violation(const char *format, ...) {
    size_t at = strlen(violations);
    va_list list;
    va_start(list, format);
    vsnprintf(violations + at, sizeof violations - at, format, list);
    va_end(list);
    at = strlen(violations);
    snprintf(violations + at, sizeof violations - at, "\n");
}

/* 0, or what the call is to fail with. */
static int told(const char *call) {
    if (strcmp(failure.call, call) || failure.after-- > 0) return 0;
    failure.after = 0;
    return failure.code;
}

#define ENTER(name) \
    pthread_mutex_lock(&lock); \
    int code = sticky ? sticky : told(name); \
    if (!code && !initialised) code = 3; \
    if (code) { pthread_mutex_unlock(&lock); return code; }
#define ENTER_CONTEXT(name) \
    ENTER(name) \
    if (!depth || !stack[depth - 1]->retained) { \
        violation("%s without a context", name); \
        pthread_mutex_unlock(&lock); \
        return INVALID_CONTEXT; \
    }
#define LEAVE(value) do { result leave = (value); pthread_mutex_unlock(&lock); return leave; } while (0)

static int allocation_of(uint64_t at, size_t size) {
    for (int i = 0; i < MANY; i++)
        if (allocations[i].id && at >= allocations[i].at
            && at + size <= allocations[i].at + allocations[i].size) return i;
    return -1;
}

static int pending(void) {
    int count = 0;
    for (int i = 0; i < MANY; i++) count += copies[i].used;
    return count;
}

/* Does the copies of a stream up to a number, in order. */
static int complete(void *stream, uint64_t number) {
    for (;;) {
        struct copy *first = 0;
        for (int i = 0; i < MANY; i++)
            if (copies[i].used && copies[i].stream == stream && copies[i].number <= number
                && (!first || copies[i].number < first->number)) first = &copies[i];
        if (!first) return 0;
        if ((sticky = told("copy"))) return sticky;
        int i = allocation_of(first->device, first->size);
        if (i < 0 || allocations[i].id != first->id) {
            violation("copy to memory that was freed");
        } else if (first->to_device) {
            memcpy(arena + (first->device - BASE), first->host, first->size);
            reached += first->size;
        } else {
            memcpy(first->host, arena + (first->device - BASE), first->size);
        }
        first->used = 0;
    }
}

/* For tests. */
void fake_fail(const char *call, int code, int after) {
    snprintf(failure.call, sizeof failure.call, "%s", call);
    failure.code = code;
    failure.after = after;
}
void fake_devices(int count) { devices = count; }
void fake_dmabuf(int supported) { dmabuf = supported; }
void fake_page(uint64_t bytes) { page = bytes; }
void fake_export_max(uint64_t bytes) { export_max = bytes; }
const char *fake_violations(void) { return violations; }
uint64_t fake_reached(void) { return reached; }
int fake_pending(void) { return pending(); }
int fake_exports(void) { return exports; }
int fake_pins(void) { int n = 0; for (int i = 0; i < MANY; i++) n += pins[i].at != 0; return n; }
int fake_live(void) {
    int count = live_streams + live_events + pending() + fake_pins();
    for (int i = 0; i < MANY; i++) count += allocations[i].id != 0;
    for (int i = 0; i < 2; i++) count += contexts[i].retained;
    return count;
}
void fake_read(uint64_t at, void *to, size_t size) { memcpy(to, arena + (at - BASE), size); }
uint64_t fake_file_offset(uint64_t at) { return at - BASE; }

/* The library. */
result cuGetErrorString(result code, const char **words) {
    switch (code) {
    case INVALID_VALUE: *words = "invalid argument"; return 0;
    case OUT_OF_MEMORY: *words = "out of memory"; return 0;
    case 100: *words = "no CUDA-capable device is detected"; return 0;
    case 719: *words = "unspecified launch failure"; return 0;
    case 800: *words = "operation not permitted"; return 0;
    case 801: *words = "operation not supported"; return 0;
    default: *words = 0; return INVALID_VALUE;
    }
}

result cuInit(unsigned flags) {
    pthread_mutex_lock(&lock);
    int code = told("cuInit");
    if (!code && flags) code = INVALID_VALUE;
    if (!code && !initialised) {
        memfd = memfd_create("device", MFD_CLOEXEC);
        if (memfd < 0 || ftruncate(memfd, ARENA)) abort();
        arena = mmap(0, ARENA, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
        if (arena == MAP_FAILED) abort();
        initialised = 1;
    }
    LEAVE(code);
}
result cuDriverGetVersion(int *version) { *version = 12040; return 0; }
result cuDeviceGetCount(int *count) { ENTER("cuDeviceGetCount") *count = devices; LEAVE(0); }
result cuDeviceGet(int *device, int ordinal) {
    ENTER("cuDeviceGet")
    if (ordinal < 0 || ordinal >= devices) LEAVE(101);
    *device = ordinal;
    LEAVE(0);
}
result cuDeviceGetName(char *name, int room, int device) {
    ENTER("cuDeviceGetName")
    snprintf(name, room, "Fake %d", device);
    LEAVE(0);
}
result cuDeviceTotalMem_v2(size_t *bytes, int device) {
    ENTER("cuDeviceTotalMem") (void)device; *bytes = ARENA; LEAVE(0);
}
result cuDeviceGetAttribute(int *value, int attribute, int device) {
    ENTER("cuDeviceGetAttribute") (void)device;
    if (attribute != 124) LEAVE(INVALID_VALUE);
    *value = dmabuf;
    LEAVE(0);
}
result cuDevicePrimaryCtxRetain(void **context, int device) {
    ENTER("cuDevicePrimaryCtxRetain")
    contexts[device].retained++;
    *context = &contexts[device];
    LEAVE(0);
}
result cuDevicePrimaryCtxRelease_v2(int device) {
    pthread_mutex_lock(&lock);
    if (--contexts[device].retained < 0) violation("context released twice");
    if (pending() && !sticky) violation("context released with copies under way");
    LEAVE(sticky);
}
result cuCtxPushCurrent_v2(void *context) {
    ENTER("cuCtxPushCurrent")
    if (depth == 16) abort();
    stack[depth++] = context;
    LEAVE(0);
}
result cuCtxPopCurrent_v2(void **context) {
    if (!depth) { violation("no context to pop"); return INVALID_CONTEXT; }
    *context = stack[--depth];
    return 0;
}
result cuMemAlloc_v2(uint64_t *address, size_t size) {
    ENTER_CONTEXT("cuMemAlloc")
    if (!size) LEAVE(INVALID_VALUE);
    /* First fit, so that a freed address is soon used again. */
    for (uint64_t at = BASE; at + size <= BASE + ARENA;) {
        uint64_t past = 0;
        for (int i = 0; i < MANY; i++)
            if (allocations[i].id && at < allocations[i].at + allocations[i].size
                && allocations[i].at < at + size) past = allocations[i].at + allocations[i].size;
        if (past) { at = (past + ALIGN - 1) / ALIGN * ALIGN; continue; }
        for (int i = 0; i < MANY; i++) {
            if (allocations[i].id) continue;
            allocations[i].at = at;
            allocations[i].size = size;
            allocations[i].id = next_id++;
            allocations[i].sync = 0;
            *address = at;
            LEAVE(0);
        }
        break;
    }
    LEAVE(OUT_OF_MEMORY);
}
result cuMemFree_v2(uint64_t address) {
    ENTER_CONTEXT("cuMemFree")
    int i = allocation_of(address, 1);
    if (i < 0 || allocations[i].at != address) { violation("freed twice"); LEAVE(INVALID_VALUE); }
    for (int c = 0; c < MANY; c++)
        if (copies[c].used && copies[c].id == allocations[i].id) violation("freed under a copy");
    allocations[i].id = 0;
    LEAVE(0);
}
result cuMemGetAddressRange_v2(uint64_t *base, size_t *size, uint64_t address) {
    ENTER_CONTEXT("cuMemGetAddressRange")
    int i = allocation_of(address, 1);
    if (i < 0) LEAVE(INVALID_VALUE);
    *base = allocations[i].at;
    *size = allocations[i].size;
    LEAVE(0);
}
result cuPointerGetAttribute(void *value, int attribute, uint64_t address) {
    ENTER_CONTEXT("cuPointerGetAttribute")
    int i = allocation_of(address, 1);
    if (i < 0) LEAVE(INVALID_VALUE);
    if (attribute == 2) *(unsigned *)value = 2;
    else if (attribute == 7) *(uint64_t *)value = allocations[i].id;
    else LEAVE(INVALID_VALUE);
    LEAVE(0);
}
result cuPointerSetAttribute(const void *value, int attribute, uint64_t address) {
    ENTER_CONTEXT("cuPointerSetAttribute")
    int i = allocation_of(address, 1);
    if (i < 0 || attribute != 6) LEAVE(INVALID_VALUE);
    allocations[i].sync = *(const unsigned *)value;
    LEAVE(0);
}
result cuMemHostRegister_v2(void *host, size_t size, unsigned flags) {
    ENTER_CONTEXT("cuMemHostRegister")
    if (!size || flags > 15) LEAVE(INVALID_VALUE);
    for (int i = 0; i < MANY; i++)
        if (pins[i].at && (char *)host < pins[i].at + pins[i].size
            && pins[i].at < (char *)host + size) {
            violation("pinned twice");
            LEAVE(712);
        }
    for (int i = 0; i < MANY; i++) {
        if (pins[i].at) continue;
        pins[i].at = host;
        pins[i].size = size;
        LEAVE(0);
    }
    LEAVE(OUT_OF_MEMORY);
}
result cuMemHostUnregister(void *host) {
    ENTER_CONTEXT("cuMemHostUnregister")
    for (int i = 0; i < MANY; i++) {
        if (!pins[i].at || pins[i].at != (char *)host) continue;
        for (int c = 0; c < MANY; c++)
            if (copies[c].used && (char *)copies[c].host >= pins[i].at
                && (char *)copies[c].host < pins[i].at + pins[i].size)
                violation("unpinned under a copy");
        pins[i].at = 0;
        LEAVE(0);
    }
    violation("unpinned what is not pinned");
    LEAVE(713);
}
static result copy(int to_device, void *host, uint64_t device, size_t size, void *stream) {
    int i = allocation_of(device, size);
    if (i < 0) { violation("copy outside of an allocation"); return INVALID_VALUE; }
    if (!stream || !((struct stream *)stream)->live) return INVALID_HANDLE;
    for (int c = 0; c < MANY; c++) {
        if (copies[c].used) continue;
        copies[c] = (struct copy){1, to_device, host, device, size, stream, ++sequence,
                                  allocations[i].id};
        return 0;
    }
    return OUT_OF_MEMORY;
}
result cuMemcpyHtoDAsync_v2(uint64_t device, const void *host, size_t size, void *stream) {
    ENTER_CONTEXT("cuMemcpyHtoDAsync")
    LEAVE(copy(1, (void *)host, device, size, stream));
}
result cuMemcpyDtoHAsync_v2(void *host, uint64_t device, size_t size, void *stream) {
    ENTER_CONTEXT("cuMemcpyDtoHAsync")
    LEAVE(copy(0, host, device, size, stream));
}
result cuStreamCreate(void **stream, unsigned flags) {
    ENTER_CONTEXT("cuStreamCreate")
    if (flags > 1) LEAVE(INVALID_VALUE);
    struct stream *made = calloc(1, sizeof *made);
    made->live = 1;
    live_streams++;
    *stream = made;
    LEAVE(0);
}
result cuStreamDestroy_v2(void *stream) {
    ENTER_CONTEXT("cuStreamDestroy")
    struct stream *old = stream;
    if (!old->live) { violation("stream destroyed twice"); LEAVE(INVALID_HANDLE); }
    for (int c = 0; c < MANY; c++)
        if (copies[c].used && copies[c].stream == stream) violation("stream destroyed under a copy");
    /* Never given back, so that a second time is noticed. */
    old->live = 0;
    live_streams--;
    LEAVE(0);
}
#ifndef TOO_OLD
result cuStreamSynchronize(void *stream) {
    ENTER_CONTEXT("cuStreamSynchronize")
    LEAVE(complete(stream, ~0ull));
}
#endif
result cuEventCreate(void **event, unsigned flags) {
    ENTER_CONTEXT("cuEventCreate")
    if (flags > 7) LEAVE(INVALID_VALUE);
    struct event *made = calloc(1, sizeof *made);
    made->live = 1;
    made->patience = patience;
    live_events++;
    *event = made;
    LEAVE(0);
}
result cuEventRecord(void *event, void *stream) {
    ENTER_CONTEXT("cuEventRecord")
    ((struct event *)event)->number = sequence;
    ((struct event *)event)->stream = stream;
    LEAVE(0);
}
result cuEventQuery(void *event) {
    ENTER_CONTEXT("cuEventQuery")
    struct event *asked = event;
    if (asked->patience-- > 0) LEAVE(NOT_READY);
    LEAVE(complete(asked->stream, asked->number));
}
result cuEventSynchronize(void *event) {
    ENTER_CONTEXT("cuEventSynchronize")
    struct event *asked = event;
    LEAVE(complete(asked->stream, asked->number));
}
result cuEventDestroy_v2(void *event) {
    ENTER_CONTEXT("cuEventDestroy")
    struct event *old = event;
    if (!old->live) { violation("event destroyed twice"); LEAVE(INVALID_HANDLE); }
    old->live = 0;
    live_events--;
    LEAVE(0);
}
#ifndef NO_EXPORT
result cuMemGetHandleForAddressRange(void *handle, uint64_t address, size_t size, int type,
                                     unsigned long long flags) {
    ENTER_CONTEXT("cuMemGetHandleForAddressRange")
    if (!dmabuf) LEAVE(801);
    if (type != 1 || flags || !size || address % page || size % page) LEAVE(INVALID_VALUE);
    int i = allocation_of(address, size);
    if (i < 0) { violation("export beyond an allocation"); LEAVE(INVALID_VALUE); }
    if (size > export_max) LEAVE(OUT_OF_MEMORY);
    if (!allocations[i].sync) violation("export without SYNC_MEMOPS");
    exports++;
    /* All of the device: tests know where the range begins. */
    *(int *)handle = dup(memfd);
    LEAVE(0);
}
#endif
