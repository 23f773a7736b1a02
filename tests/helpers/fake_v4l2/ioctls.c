/* What the camera says to each ioctl, as the UVC driver would. Every function gives 0 or an errno. */
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct { __u32 width, height; } SIZES[] = {{160, 120}, {320, 240}, {640, 480}};
static const __u32 RATES[] = {15, 30, 60};

/* Two bytes a pixel at the full size fill the bus, so that only the lowest rate is left. */
static size_t rate_count(const struct format *format, __u32 width) {
    return format->step == 2 && width == 640 ? 1 : COUNT(RATES);
}

static void set_rate(double fps) {
    double nearest = 1e9;
    for (size_t i = 0; i < rate_count(cam.format, cam.width); i++) {
        double far = fps > RATES[i] ? fps - RATES[i] : RATES[i] - fps;
        if (far < nearest) nearest = far, cam.rate = RATES[i];
    }
}

static const char *const FREQUENCIES[] = {"Disabled", "50 Hz", "60 Hz"};
static const char *const EXPOSURES[] = {NULL, "Manual Mode", NULL, "Aperture Priority Mode"};

static const char *menu_entry(__u32 id, __u32 index) {
    if (id == V4L2_CID_POWER_LINE_FREQUENCY && index < COUNT(FREQUENCIES)) return FREQUENCIES[index];
    if (id == V4L2_CID_EXPOSURE_AUTO && index < COUNT(EXPOSURES)) return EXPOSURES[index];
    return NULL;
}

static bool offered(const struct format *format) {
    const char *list = getenv("FAKE_V4L2_FORMATS"), *at;
    if (!list) return format->step || cam.jpeg;
    size_t length = strlen(format->name);
    for (at = list; (at = strstr(at, format->name)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == ',' || !at[length])) return true;
    return false;
}

static const struct format *format_of(__u32 fourcc) {
    for (size_t i = 0; i < COUNT(FORMATS); i++)
        if (FORMATS[i].fourcc == fourcc && offered(&FORMATS[i])) return &FORMATS[i];
    return NULL;
}

int is_busy(const char *call) { return !strcmp(cam.busy, call) ? EBUSY : 0; }

static int querycap(struct v4l2_capability *cap) {
    memset(cap, 0, sizeof *cap);
    strcpy((char *)cap->driver, "uvcvideo");
    strcpy((char *)cap->card, "Fake CLE Camera");
    strcpy((char *)cap->bus_info, "usb-0000:00:14.0-1");
    cap->version = 0x060100;
    cap->device_caps = V4L2_CAP_STREAMING | V4L2_CAP_EXT_PIX_FORMAT;
    cap->device_caps |= cam.metadata ? V4L2_CAP_META_CAPTURE : V4L2_CAP_VIDEO_CAPTURE;
    cap->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_META_CAPTURE | V4L2_CAP_STREAMING |
                        V4L2_CAP_EXT_PIX_FORMAT | V4L2_CAP_DEVICE_CAPS;
    return 0;
}

static int enum_fmt(struct v4l2_fmtdesc *desc) {
    __u32 index = desc->index, at = 0;
    if (desc->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return EINVAL;
    for (size_t i = 0; i < COUNT(FORMATS); i++)
        if (offered(&FORMATS[i]) && at++ == index) {
            desc->pixelformat = FORMATS[i].fourcc;
            desc->flags = FORMATS[i].step ? 0 : V4L2_FMT_FLAG_COMPRESSED;
            snprintf((char *)desc->description, sizeof desc->description, "%s", FORMATS[i].name);
            return 0;
        }
    return EINVAL;
}

static void describe(struct v4l2_pix_format *pix, const struct format *format, __u32 width, __u32 height) {
    const char *padding = getenv("FAKE_V4L2_PADDING");
    memset(pix, 0, sizeof *pix);
    pix->width = width, pix->height = height, pix->pixelformat = format->fourcc;
    pix->field = V4L2_FIELD_NONE;
    pix->bytesperline = format->step ? width * format->step + (padding ? atoi(padding) : 0) : 0;
    pix->sizeimage = pix->bytesperline * height;
    if (!format->step) pix->sizeimage = width * height * 2;
    if (format->fourcc == V4L2_PIX_FMT_NV12) pix->sizeimage = pix->sizeimage * 3 / 2;
    pix->colorspace = V4L2_COLORSPACE_SRGB;
}

static int try_fmt(struct v4l2_pix_format *pix) {
    const struct format *format = format_of(pix->pixelformat);
    size_t best = 0;
    for (size_t i = 0; !format && i < COUNT(FORMATS); i++)
        if (offered(&FORMATS[i])) format = &FORMATS[i];
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        long now = labs((long)SIZES[i].width - pix->width) + labs((long)SIZES[i].height - pix->height);
        long then = labs((long)SIZES[best].width - pix->width) + labs((long)SIZES[best].height - pix->height);
        if (now < then) best = i;
    }
    describe(pix, format, SIZES[best].width, SIZES[best].height);
    return 0;
}

static int set_fmt(struct file *file, struct v4l2_pix_format *pix) {
    if (is_busy("S_FMT") || cam.count || (cam.owner && cam.owner != file)) return EBUSY;
    try_fmt(pix);
    cam.format = format_of(pix->pixelformat);
    cam.width = pix->width, cam.height = pix->height, cam.stride = pix->bytesperline;
    set_rate(30);
    note("S_FMT %s %ux%u", cam.format->name, cam.width, cam.height);
    return 0;
}

static int enum_sizes(struct v4l2_frmsizeenum *size) {
    if (!format_of(size->pixel_format) || size->index >= COUNT(SIZES)) return EINVAL;
    size->type = V4L2_FRMSIZE_TYPE_DISCRETE;
    size->discrete.width = SIZES[size->index].width;
    size->discrete.height = SIZES[size->index].height;
    return 0;
}

static int enum_intervals(struct v4l2_frmivalenum *interval) {
    bool known = false;
    for (size_t i = 0; i < COUNT(SIZES); i++)
        known |= SIZES[i].width == interval->width && SIZES[i].height == interval->height;
    const struct format *format = format_of(interval->pixel_format);
    if (!known || !format || interval->index >= rate_count(format, interval->width)) return EINVAL;
    interval->type = V4L2_FRMIVAL_TYPE_DISCRETE;
    interval->discrete.numerator = 1;
    interval->discrete.denominator = RATES[interval->index];
    return 0;
}

static int parm(struct v4l2_streamparm *parm, bool set) {
    struct v4l2_captureparm *capture = &parm->parm.capture;
    struct v4l2_fract asked = capture->timeperframe;
    if (parm->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return EINVAL;
    if (set && cam.streaming) return EBUSY;
    if (set && asked.numerator && asked.denominator) {
        set_rate((double)asked.denominator / asked.numerator);
        note("S_PARM %u", cam.rate);
    }
    memset(&parm->parm, 0, sizeof parm->parm);
    capture->capability = V4L2_CAP_TIMEPERFRAME;
    capture->timeperframe = (struct v4l2_fract){1, cam.rate};
    return 0;
}

static struct control *control_of(__u32 id) {
    for (size_t i = 0; i < COUNT(CONTROLS); i++)
        if (CONTROLS[i].id == id) return &CONTROLS[i];
    return NULL;
}

static bool inactive(const struct control *control) {
    return control->automatic && control_of(control->automatic)->value != control->manual;
}

static struct control *query(__u32 id) {
    __u32 asked = id & ~(V4L2_CTRL_FLAG_NEXT_CTRL | V4L2_CTRL_FLAG_NEXT_COMPOUND);
    if (!(id & V4L2_CTRL_FLAG_NEXT_CTRL)) return asked == id ? control_of(id) : NULL;
    for (size_t i = 0; i < COUNT(CONTROLS); i++)
        if (CONTROLS[i].id > asked) return &CONTROLS[i];
    return NULL;
}

static __u32 control_flags(const struct control *control) {
    if (control->type == V4L2_CTRL_TYPE_CTRL_CLASS) return V4L2_CTRL_FLAG_READ_ONLY | V4L2_CTRL_FLAG_WRITE_ONLY;
    return inactive(control) ? V4L2_CTRL_FLAG_INACTIVE : 0;
}

static int query_ctrl(struct v4l2_queryctrl *answer) {
    struct control *control = query(answer->id);
    if (!control) return EINVAL;
    memset(answer, 0, sizeof *answer);
    answer->id = control->id, answer->type = control->type, answer->flags = control_flags(control);
    answer->minimum = control->minimum, answer->maximum = control->maximum;
    answer->step = control->step, answer->default_value = control->initial;
    snprintf((char *)answer->name, sizeof answer->name, "%s", control->name);
    return 0;
}

static int query_ext_ctrl(struct v4l2_query_ext_ctrl *answer) {
    struct control *control = query(answer->id);
    if (!control) return EINVAL;
    memset(answer, 0, sizeof *answer);
    answer->id = control->id, answer->type = control->type, answer->flags = control_flags(control);
    answer->minimum = control->minimum, answer->maximum = control->maximum;
    answer->step = control->step, answer->default_value = control->initial;
    answer->elem_size = 4, answer->elems = 1;
    snprintf(answer->name, sizeof answer->name, "%s", control->name);
    return 0;
}

static int query_menu(struct v4l2_querymenu *menu) {
    const char *entry = menu_entry(menu->id, menu->index);
    if (!entry) return EINVAL;
    menu->reserved = 0;
    snprintf((char *)menu->name, sizeof menu->name, "%s", entry);
    return 0;
}

static int check_control(const struct control *control, int value) {
    if (!control || control->type == V4L2_CTRL_TYPE_CTRL_CLASS) return EINVAL;
    if (inactive(control)) return EACCES;
    if (value < control->minimum || value > control->maximum) return ERANGE;
    if (control->type == V4L2_CTRL_TYPE_MENU && !menu_entry(control->id, value)) return EINVAL;
    return 0;
}

static int set_ctrl(__u32 id, int value) {
    struct control *control = control_of(id);
    int error = check_control(control, value);
    if (!error) control->value = value;
    note("S_CTRL %s = %d%s%s", control ? control->name : "?", value, error ? ": " : "", error ? strerror(error) : "");
    return error;
}

static int get_ctrl(__u32 id, bool initial, int *value) {
    struct control *control = control_of(id);
    if (!control || control->type == V4L2_CTRL_TYPE_CTRL_CLASS) return EINVAL;
    *value = initial ? control->initial : control->value;
    return 0;
}

static int ext_ctrls(struct v4l2_ext_controls *all, unsigned long request) {
    int error = 0;
    for (__u32 i = 0; i < all->count && !error; i++) {
        struct v4l2_ext_control *one = &all->controls[i];
        int value = one->value;
        if (request == VIDIOC_G_EXT_CTRLS) error = get_ctrl(one->id, all->which == V4L2_CTRL_WHICH_DEF_VAL, &value);
        else if (request == VIDIOC_TRY_EXT_CTRLS) error = check_control(control_of(one->id), one->value);
        else error = set_ctrl(one->id, one->value);
        one->value = value;
        all->error_idx = i;
    }
    return error;
}

static int reqbufs(struct file *file, struct v4l2_requestbuffers *request) {
    if (request->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || request->memory != V4L2_MEMORY_MMAP) return EINVAL;
    if (is_busy("REQBUFS") || (cam.owner && cam.owner != file)) return EBUSY;
    if (cam.streaming && request->count) return EBUSY;
    free_buffers();
    request->capabilities = V4L2_BUF_CAP_SUPPORTS_MMAP | V4L2_BUF_CAP_SUPPORTS_ORPHANED_BUFS;
    if (!request->count) return 0;
    if (request->count > BUFFERS) request->count = BUFFERS;
    cam.count = request->count;
    cam.memory = memfd_create("frames", MFD_CLOEXEC);
    if (ftruncate(cam.memory, buffer_span() * cam.count)) return ENOMEM;
    cam.pixels = REAL(mmap)(NULL, buffer_span() * cam.count, PROT_READ | PROT_WRITE, MAP_SHARED, cam.memory, 0);
    cam.owner = file;
    for (int i = 0; i < cam.count; i++) {
        cam.buffers[i] = (struct buffer){.info = {.index = i, .type = request->type, .memory = V4L2_MEMORY_MMAP}};
        cam.buffers[i].info.length = image_size();
        cam.buffers[i].info.m.offset = buffer_span() * i;
    }
    return 0;
}

static int querybuf(struct v4l2_buffer *buffer) {
    if (buffer->index >= (__u32)cam.count) return EINVAL;
    *buffer = cam.buffers[buffer->index].info;
    return 0;
}

static int qbuf(struct file *file, struct v4l2_buffer *buffer) {
    if (cam.owner != file || buffer->index >= (__u32)cam.count || buffer->memory != V4L2_MEMORY_MMAP) return EINVAL;
    struct buffer *mine = &cam.buffers[buffer->index];
    if (mine->queued || mine->done) return EINVAL;
    memset(cam.pixels + mine->info.m.offset, 0xDB, buffer_span()); /* it is the driver's now: a late reader shows */
    mine->queued = true;
    cam.queue[cam.queued++] = buffer->index;
    return 0;
}

static int dqbuf(int fd, struct v4l2_buffer *buffer) {
    char byte;
    struct file *file = file_of(fd);
    if (cam.owner != file || !cam.streaming) return EINVAL;
    while (!cam.filled) {
        if (fcntl(fd, F_GETFL) & O_NONBLOCK) return EAGAIN;
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        pthread_mutex_unlock(&cam.lock);
        poll(&wait, 1, -1);
        pthread_mutex_lock(&cam.lock);
        if (file->gone) return ENODEV;
        if (!cam.streaming) return EINVAL;
    }
    if (recv(fd, &byte, 1, MSG_DONTWAIT) != 1) return EIO;
    int index = cam.done[0];
    memmove(cam.done, cam.done + 1, sizeof cam.done[0] * --cam.filled);
    cam.buffers[index].done = false;
    *buffer = cam.buffers[index].info;
    buffer->flags &= ~V4L2_BUF_FLAG_DONE;
    return 0;
}

static int stream_on(struct file *file) {
    if (is_busy("STREAMON")) return EBUSY;
    if (cam.owner != file || !cam.count) return EINVAL;
    if (cam.streaming) return 0;
    note("STREAMON");
    return start_streaming();
}

static int stream_off(struct file *file) {
    if (cam.owner && cam.owner != file) return EBUSY;
    if (cam.streaming) note("STREAMOFF");
    stop_streaming();
    return 0;
}

static int input(struct v4l2_input *answer) {
    if (answer->index) return EINVAL;
    memset(answer, 0, sizeof *answer);
    strcpy((char *)answer->name, "Camera 1");
    answer->type = V4L2_INPUT_TYPE_CAMERA;
    return 0;
}

int answer(int fd, unsigned long request, void *arg) {
    struct file *file = file_of(fd);
    if (file->gone) return ENODEV;
    struct v4l2_format *format = arg;
    struct v4l2_control *one = arg;
    switch (request) {
        case VIDIOC_QUERYCAP: return querycap(arg);
        case VIDIOC_ENUMINPUT: return input(arg);
        case VIDIOC_G_INPUT: *(int *)arg = 0; return 0;
        case VIDIOC_S_INPUT: return *(int *)arg ? EINVAL : 0;
        case VIDIOC_G_PRIORITY: *(__u32 *)arg = V4L2_PRIORITY_INTERACTIVE; return 0;
        case VIDIOC_S_PRIORITY: return 0;
    }
    if (cam.metadata) return EINVAL;
    switch (request) {
        case VIDIOC_ENUM_FMT: return enum_fmt(arg);
        case VIDIOC_G_FMT:
        case VIDIOC_TRY_FMT:
        case VIDIOC_S_FMT:
            if (format->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return EINVAL;
            if (request == VIDIOC_S_FMT) return set_fmt(file, &format->fmt.pix);
            if (request == VIDIOC_TRY_FMT) return try_fmt(&format->fmt.pix);
            describe(&format->fmt.pix, cam.format, cam.width, cam.height);
            return 0;
        case VIDIOC_ENUM_FRAMESIZES: return enum_sizes(arg);
        case VIDIOC_ENUM_FRAMEINTERVALS: return enum_intervals(arg);
        case VIDIOC_G_PARM: return parm(arg, false);
        case VIDIOC_S_PARM: return parm(arg, true);
        case VIDIOC_QUERYCTRL: return query_ctrl(arg);
        case VIDIOC_QUERY_EXT_CTRL: return query_ext_ctrl(arg);
        case VIDIOC_QUERYMENU: return query_menu(arg);
        case VIDIOC_G_CTRL: return get_ctrl(one->id, false, &one->value);
        case VIDIOC_S_CTRL: return set_ctrl(one->id, one->value);
        case VIDIOC_G_EXT_CTRLS:
        case VIDIOC_S_EXT_CTRLS:
        case VIDIOC_TRY_EXT_CTRLS: return ext_ctrls(arg, request);
        case VIDIOC_REQBUFS: return reqbufs(file, arg);
        case VIDIOC_QUERYBUF: return querybuf(arg);
        case VIDIOC_QBUF: return qbuf(file, arg);
        case VIDIOC_DQBUF: return dqbuf(fd, arg);
        case VIDIOC_STREAMON: return stream_on(file);
        case VIDIOC_STREAMOFF: return stream_off(file);
    }
    return ENOTTY;
}
