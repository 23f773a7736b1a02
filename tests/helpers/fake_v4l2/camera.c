/* A V4L2 camera without a camera: preloaded into a program, it answers for one device path as the UVC driver
 * of Linux does, and generates the frames. README.md beside this file says how to steer it.
 *
 * The descriptor that the program gets is one end of a socket pair, so poll, select and epoll work on it
 * unaided: a byte waits in it for every filled buffer, and closing the other end with an unread byte in it makes
 * POLLERR | POLLHUP, as an unplugged camera does.
 */
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct camera cam = {.lock = PTHREAD_MUTEX_INITIALIZER, .memory = -1};

const struct format FORMATS[FORMAT_COUNT] = {
    {"MJPG", V4L2_PIX_FMT_MJPEG, 8, 0}, {"YUYV", V4L2_PIX_FMT_YUYV, 8, 2}, {"NV12", V4L2_PIX_FMT_NV12, 8, 1},
    {"GREY", V4L2_PIX_FMT_GREY, 8, 1},  {"Y10", V4L2_PIX_FMT_Y10, 10, 2},  {"Y12", V4L2_PIX_FMT_Y12, 12, 2},
    {"Y16", V4L2_PIX_FMT_Y16, 16, 2},   {"UYVY", V4L2_PIX_FMT_UYVY, 8, 2, 1}, {"YU12", V4L2_PIX_FMT_YUV420, 8, 1},
    {"NM12", V4L2_PIX_FMT_NV12M, 8, 1},
};

struct control CONTROLS[CONTROL_COUNT] = {
    {V4L2_CID_USER_CLASS, V4L2_CTRL_TYPE_CTRL_CLASS, "User Controls", 0, 0, 0, 0, 0, 0, 0},
    {V4L2_CID_BRIGHTNESS, V4L2_CTRL_TYPE_INTEGER, "Brightness", -64, 64, 1, 0, 0, 0, 0},
    {V4L2_CID_AUTO_WHITE_BALANCE, V4L2_CTRL_TYPE_BOOLEAN, "White Balance, Automatic", 0, 1, 1, 1, 0, 0, 0},
    {V4L2_CID_AUTOGAIN, V4L2_CTRL_TYPE_BOOLEAN, "Gain, Automatic", 0, 1, 1, 1, 0, 0, 0},
    {V4L2_CID_GAIN, V4L2_CTRL_TYPE_INTEGER, "Gain", 0, 100, 1, 0, V4L2_CID_AUTOGAIN, 0, 0},
    {V4L2_CID_POWER_LINE_FREQUENCY, V4L2_CTRL_TYPE_MENU, "Power Line Frequency", 0, 2, 1, 1, 0, 0, 0},
    {V4L2_CID_WHITE_BALANCE_TEMPERATURE, V4L2_CTRL_TYPE_INTEGER, "White Balance Temperature", 2800, 6500, 10, 4600,
     V4L2_CID_AUTO_WHITE_BALANCE, 0, 0},
    {V4L2_CID_CAMERA_CLASS, V4L2_CTRL_TYPE_CTRL_CLASS, "Camera Controls", 0, 0, 0, 0, 0, 0, 0},
    {V4L2_CID_EXPOSURE_AUTO, V4L2_CTRL_TYPE_MENU, "Auto Exposure", 0, 3, 1, 3, 0, 0, 0},
    {V4L2_CID_EXPOSURE_ABSOLUTE, V4L2_CTRL_TYPE_INTEGER, "Exposure Time, Absolute", 1, 5000, 1, 157,
     V4L2_CID_EXPOSURE_AUTO, V4L2_EXPOSURE_MANUAL, 0},
};

void note(const char *text, ...) {
    const char *path = getenv("FAKE_V4L2_LOG");
    char line[256];
    if (!path) return;
    va_list args;
    va_start(args, text);
    int length = vsnprintf(line, sizeof line - 1, text, args);
    va_end(args);
    line[length++] = '\n';
    int fd = REAL(open)(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        if (write(fd, line, length) != length) abort();
        REAL(close)(fd);
    }
}

const char *device_path(void) {
    const char *path = getenv("FAKE_V4L2_DEVICE");
    return path ? path : "";
}

struct file *file_of(int fd) {
    for (int i = 0; i < FILES; i++)
        if (cam.files[i].file && cam.files[i].fd == fd) return cam.files[i].file;
    return NULL;
}

bool remember(int fd, struct file *file) {
    for (int i = 0; i < FILES; i++)
        if (!cam.files[i].file) {
            cam.files[i].fd = fd;
            cam.files[i].file = file;
            file->uses++;
            return true;
        }
    return false;
}

__u32 capture_type(void) {
    return getenv("FAKE_V4L2_PLANES") ? V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE : V4L2_BUF_TYPE_VIDEO_CAPTURE;
}

__u32 field_order(void) {
    const char *field = getenv("FAKE_V4L2_FIELD");
    return field ? (__u32)atoi(field) : V4L2_FIELD_NONE;
}

size_t image_size(void) {
    size_t lines = (size_t)cam.stride * cam.height;
    if (!cam.format->step) return (size_t)cam.width * cam.height * 2;
    bool chroma = cam.format->fourcc == V4L2_PIX_FMT_NV12 || cam.format->fourcc == V4L2_PIX_FMT_YUV420;
    return chroma ? lines * 3 / 2 : lines;
}

size_t buffer_span(void) { return (image_size() + 4095) & ~(size_t)4095; }

/* ---- frames ---- */

static void paint(unsigned char *at, __u32 number) {
    unsigned mask = (1u << cam.format->bits) - 1;
    memset(at, 0xEE, image_size());
    for (__u32 y = 0; y < cam.height; y++) {
        unsigned char *line = at + (size_t)y * cam.stride;
        for (__u32 x = 0; x < cam.width; x++) {
            unsigned value = (x * 37 + y * 101 + number * 7) & mask;
            if (cam.format->bits > 8) {
                line[2 * x] = value & 0xFF;
                line[2 * x + 1] = value >> 8;
            } else {
                line[x * cam.format->step + cam.format->offset] = value;
                if (cam.format->step == 2) line[2 * x + 1 - cam.format->offset] = x & 1 ? 0xAA : 0x55; /* chroma */
            }
        }
    }
}

static size_t fill(unsigned char *at) {
    if (cam.format->step) {
        paint(at, cam.sequence);
        return image_size();
    }
    if (cam.jpeg_size > image_size()) abort();
    memcpy(at, cam.jpeg, cam.jpeg_size);
    if (!cam.damaged) return cam.jpeg_size;
    cam.damaged--; /* a lost packet: its bytes are missing from the middle */
    size_t half = cam.jpeg_size / 2, lost = cam.jpeg_size / 8;
    memmove(at + half, at + half + lost, cam.jpeg_size - half - lost);
    return cam.jpeg_size - lost;
}

static void deliver(struct timespec when) {
    cam.sequence += cam.skip;
    cam.skip = 0;
    if (cam.queued) { /* else the driver drops the frame, and its number is missing */
        int index = cam.queue[0];
        struct buffer *buffer = &cam.buffers[index];
        memmove(cam.queue, cam.queue + 1, sizeof cam.queue[0] * --cam.queued);
        buffer->info.bytesused = fill(cam.pixels + index * buffer_span());
        buffer->info.sequence = cam.sequence;
        buffer->info.field = field_order();
        if (field_order() == V4L2_FIELD_ALTERNATE) /* two buffers a frame, of one number */
            buffer->info.field = cam.frames % 2 ? V4L2_FIELD_BOTTOM : V4L2_FIELD_TOP;
        buffer->info.flags = V4L2_BUF_FLAG_MAPPED | V4L2_BUF_FLAG_DONE;
        if (!cam.unstamped) buffer->info.flags |= V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | V4L2_BUF_FLAG_TSTAMP_SRC_SOE;
        buffer->info.timestamp.tv_sec = cam.unstamped ? 0 : when.tv_sec;
        buffer->info.timestamp.tv_usec = cam.unstamped ? 0 : when.tv_nsec / 1000;
        if (cam.errors) {
            cam.errors--;
            buffer->info.flags |= V4L2_BUF_FLAG_ERROR;
            buffer->info.bytesused /= 2;
        }
        buffer->queued = false;
        buffer->done = true;
        cam.done[cam.filled++] = index;
        if (send(cam.owner->other, "f", 1, MSG_NOSIGNAL) != 1) abort();
    }
    cam.frames++;
    if (field_order() != V4L2_FIELD_ALTERNATE || cam.frames % 2 == 0) cam.sequence++;
}

static void *run(void *unused) {
    (void)unused;
    struct timespec next;
    pthread_mutex_lock(&cam.lock);
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (cam.streaming) {
        next.tv_nsec += 1000000000 / cam.rate;
        next.tv_sec += next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        while (cam.streaming && pthread_cond_timedwait(&cam.changed, &cam.lock, &next) != ETIMEDOUT)
            ;
        if (cam.streaming && !cam.stalled) deliver(next);
    }
    pthread_mutex_unlock(&cam.lock);
    return NULL;
}

int start_streaming(void) {
    cam.sequence = cam.first;
    cam.first = cam.frames = 0;
    cam.streaming = true;
    return pthread_create(&cam.thread, NULL, run, NULL);
}

void stop_streaming(void) {
    char byte;
    if (!cam.streaming) return;
    cam.streaming = false;
    pthread_cond_broadcast(&cam.changed);
    pthread_mutex_unlock(&cam.lock);
    pthread_join(cam.thread, NULL);
    pthread_mutex_lock(&cam.lock);
    for (int i = 0; cam.owner && i < FILES; i++)
        if (cam.files[i].file == cam.owner)
            while (cam.filled && recv(cam.files[i].fd, &byte, 1, MSG_DONTWAIT) == 1) cam.filled--;
    cam.queued = cam.filled = 0;
    for (int i = 0; i < BUFFERS; i++) cam.buffers[i].queued = cam.buffers[i].done = false;
}

void free_buffers(void) {
    stop_streaming();
    if (cam.pixels) REAL(munmap)(cam.pixels, buffer_span() * cam.count);
    if (cam.memory >= 0) REAL(close)(cam.memory);
    cam.pixels = NULL;
    cam.memory = -1;
    cam.count = 0;
    cam.owner = NULL;
}

void release(struct file *file) {
    if (--file->uses) return;
    if (cam.owner == file) free_buffers();
    if (file->other >= 0) REAL(close)(file->other);
    note("release");
    free(file);
}

/* ---- commands ---- */

static void unplug(void) {
    stop_streaming();
    free_buffers();
    for (int i = 0; i < FILES; i++) {
        struct file *file = cam.files[i].file;
        if (!file || file->gone) continue;
        file->gone = true;
        REAL(close)(file->other); /* its unread byte makes POLLERR */
        file->other = -1;
    }
    cam.unplugged = true;
    unlink(device_path());
}

static void power_on(void) {
    for (size_t i = 0; i < COUNT(CONTROLS); i++) CONTROLS[i].value = CONTROLS[i].initial;
    cam.format = &FORMATS[1];
    cam.width = 640, cam.height = 480, cam.rate = 15;
    cam.stride = cam.width * cam.format->step;
}

static void plug(void) {
    if (!cam.unplugged) return;
    int fd = REAL(open)(device_path(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) REAL(close)(fd);
    cam.unplugged = false;
    power_on(); /* it forgot everything */
}

static bool obey(const char *command) {
    char word[32] = "", what[16] = "";
    unsigned number = 1;
    sscanf(command, "%31s %15s", word, what);
    sscanf(what, "%u", &number);
    bool on = strcmp(what, "off");
    if (!strcmp(word, "unplug")) unplug();
    else if (!strcmp(word, "plug")) plug();
    else if (!strcmp(word, "stall")) cam.stalled = true;
    else if (!strcmp(word, "resume")) cam.stalled = false;
    else if (!strcmp(word, "skip")) cam.skip += number;
    else if (!strcmp(word, "sequence")) cam.first = number;
    else if (!strcmp(word, "error")) cam.errors += number;
    else if (!strcmp(word, "damage")) cam.damaged += number;
    else if (!strcmp(word, "busy")) strcpy(cam.busy, on ? what : "");
    else if (!strcmp(word, "deny")) cam.denied = on;
    else if (!strcmp(word, "metadata")) cam.metadata = on;
    else if (!strcmp(word, "unstamped")) cam.unstamped = on;
    else return false;
    note("did %s", command);
    return true;
}

static void *listen_to(void *fifo) {
    char line[128];
    while (fgets(line, sizeof line, fifo)) {
        line[strcspn(line, "\n")] = 0;
        pthread_mutex_lock(&cam.lock);
        if (*line && !obey(line)) note("unknown command %s", line);
        pthread_mutex_unlock(&cam.lock);
    }
    return NULL;
}

static void read_jpeg(const char *path) {
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (!file) return;
    fseek(file, 0, SEEK_END);
    cam.jpeg_size = ftell(file);
    rewind(file);
    cam.jpeg = malloc(cam.jpeg_size);
    if (fread(cam.jpeg, 1, cam.jpeg_size, file) != cam.jpeg_size) abort();
    fclose(file);
}

void start(void) {
    pthread_condattr_t monotonic;
    pthread_t thread;
    if (cam.started) return;
    cam.started = true;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&cam.changed, &monotonic);
    read_jpeg(getenv("FAKE_V4L2_JPEG"));
    cam.unplugged = access(device_path(), F_OK) != 0;
    power_on();
    const char *first = getenv("FAKE_V4L2_START");
    char *commands = strdup(first ? first : ""), *rest = NULL;
    for (char *one = strtok_r(commands, ";", &rest); one; one = strtok_r(NULL, ";", &rest))
        if (!obey(one)) note("unknown command %s", one);
    free(commands);
    /* Opened here and not by the thread, so that from now on the camera has as many descriptors as it will have. */
    const char *path = getenv("FAKE_V4L2_CONTROL");
    FILE *fifo = path ? fopen(path, "r+e") : NULL; /* read and write, so that it never ends */
    if (path && !fifo) note("cannot open %s", path);
    if (fifo && !pthread_create(&thread, NULL, listen_to, fifo)) pthread_detach(thread);
}

/* For tests in the same process, by ctypes: 0, or -1 for an unknown command. Has its effect on return. */
int fake_v4l2_command(const char *command) {
    pthread_mutex_lock(&cam.lock);
    start();
    bool known = obey(command);
    pthread_mutex_unlock(&cam.lock);
    return known ? 0 : -1;
}
