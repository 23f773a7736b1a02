/* What the parts of the fake camera share. camera.c: the camera itself, its frames and commands; ioctls.c: its
 * answers; preload.c: the C library's calls that lead to it. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <linux/videodev2.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define BUFFERS 8
#define FILES 32
#define MAPS 64
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
/* The function behind the one that this library replaces, looked up once. */
#define REAL(name)                                                                  \
    ({                                                                              \
        static __typeof__(&name) found;                                             \
        if (!found) found = (__typeof__(&name))dlsym(RTLD_NEXT, #name);             \
        found;                                                                      \
    })

struct format {
    const char *name;
    __u32 fourcc;
    int bits; /* of a gray sample */
    int step; /* bytes from sample to sample */
    int offset; /* of the first sample in a line */
};

struct control {
    __u32 id, type;
    const char *name;
    int minimum, maximum, step, initial;
    __u32 automatic; /* the control that must be at `manual` before this one may be written */
    int manual, value;
};

struct buffer {
    struct v4l2_buffer info;
    bool queued, done;
};

struct file { /* what one open made; lives until its last descriptor and mapping are gone */
    int uses, other; /* `other` is the driver's end of the socket pair */
    bool gone;       /* the camera was unplugged since */
};

struct camera {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool started, unplugged, stalled, denied, metadata, unstamped;
    char busy[16]; /* the call that answers EBUSY, or empty */
    unsigned skip, errors, damaged;
    const struct format *format;
    __u32 width, height, rate, stride, sequence, first, frames; /* buffers filled since the stream began */
    struct file *owner; /* who has buffers */
    int memory, count;  /* memfd of the buffers, and how many */
    unsigned char *pixels, *jpeg;
    size_t jpeg_size;
    struct buffer buffers[BUFFERS];
    int queue[BUFFERS], queued, done[BUFFERS], filled;
    bool streaming;
    pthread_t thread;
    struct { int fd; struct file *file; } files[FILES];
    struct { void *at; size_t size; struct file *file; } maps[MAPS];
};

#define FORMAT_COUNT 10
#define CONTROL_COUNT 10
extern const struct format FORMATS[FORMAT_COUNT];
extern struct control CONTROLS[CONTROL_COUNT];
__u32 capture_type(void); /* of buffers: VIDEO_CAPTURE, or with FAKE_V4L2_PLANES _MPLANE */
__u32 field_order(void);  /* FAKE_V4L2_FIELD, NONE */
extern struct camera cam; /* its lock guards everything; all functions below are called with it held */

void start(void); /* once, at the first call that concerns the device */
void note(const char *text, ...);
const char *device_path(void);
struct file *file_of(int fd);
bool remember(int fd, struct file *file);
void release(struct file *file);
void free_buffers(void);
int start_streaming(void);
void stop_streaming(void); /* gives the lock up while the thread ends */
size_t image_size(void);
size_t buffer_span(void); /* of one buffer in the mapping */
int answer(int fd, unsigned long request, void *arg); /* 0 or an errno */
int is_busy(const char *call);                        /* 0 or EBUSY */
