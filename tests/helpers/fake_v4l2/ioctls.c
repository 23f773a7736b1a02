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
    if (format->fourcc == V4L2_PIX_FMT_NV12M && !getenv("FAKE_V4L2_PLANES")) return false;
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
    __u32 pictures = getenv("FAKE_V4L2_PLANES") ? V4L2_CAP_VIDEO_CAPTURE_MPLANE : V4L2_CAP_VIDEO_CAPTURE;
    cap->device_caps |= cam.metadata ? V4L2_CAP_META_CAPTURE : pictures;
    cap->capabilities = pictures | V4L2_CAP_META_CAPTURE | V4L2_CAP_STREAMING |
                        V4L2_CAP_EXT_PIX_FORMAT | V4L2_CAP_DEVICE_CAPS;
    return 0;
}

static int enum_fmt(struct v4l2_fmtdesc *desc) {
    __u32 index = desc->index, at = 0;
    if (desc->type != capture_type()) return EINVAL;
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
    const char *quantization = getenv("FAKE_V4L2_QUANTIZATION");
    pix->field = field_order();
    pix->quantization = quantization ? atoi(quantization) : V4L2_QUANTIZATION_DEFAULT;
    pix->priv = V4L2_PIX_FMT_PRIV_MAGIC;
    pix->bytesperline = format->step ? width * format->step + (padding ? atoi(padding) : 0) : 0;
    pix->sizeimage = pix->bytesperline * height;
    if (!format->step) pix->sizeimage = width * height * 2;
    if (format->fourcc == V4L2_PIX_FMT_NV12 || format->fourcc == V4L2_PIX_FMT_YUV420) pix->sizeimage = pix->sizeimage * 3 / 2;
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

/* The same of several planes: the first has luma, and a second chroma where the format has one. */
static int planar_fmt(struct file *file, unsigned long request, struct v4l2_pix_format_mplane *mp) {
    struct v4l2_pix_format pix = {.width = mp->width, .height = mp->height, .pixelformat = mp->pixelformat};
    int error = 0;
    if (request == VIDIOC_S_FMT) error = set_fmt(file, &pix);
    else if (request == VIDIOC_TRY_FMT) error = try_fmt(&pix);
    else describe(&pix, cam.format, cam.width, cam.height);
    memset(mp, 0, sizeof *mp);
    mp->width = pix.width, mp->height = pix.height, mp->pixelformat = pix.pixelformat, mp->field = pix.field;
    mp->colorspace = pix.colorspace, mp->quantization = pix.quantization;
    mp->num_planes = pix.pixelformat == V4L2_PIX_FMT_NV12M ? 2 : 1;
    mp->plane_fmt[0].bytesperline = pix.bytesperline, mp->plane_fmt[0].sizeimage = pix.sizeimage;
    mp->plane_fmt[1].bytesperline = pix.bytesperline, mp->plane_fmt[1].sizeimage = pix.sizeimage / 2;
    return error;
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
    if (parm->type != capture_type()) return EINVAL;
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
    if (request->type != capture_type() || request->memory != V4L2_MEMORY_MMAP) return EINVAL;
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

/* `mine` as the program gets it: of several planes, where the program has room for them. */
static int tell(struct v4l2_buffer *buffer, const struct v4l2_buffer *mine) {
    struct v4l2_buffer asked = *buffer;
    *buffer = *mine;
    if (capture_type() != V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE) return 0;
    if (asked.length < 2 || !asked.m.planes) return EINVAL;
    buffer->m.planes = asked.m.planes;
    buffer->bytesused = 0;
    buffer->length = 1;
    asked.m.planes[0] = (struct v4l2_plane){.bytesused = mine->bytesused, .length = mine->length};
    asked.m.planes[0].m.mem_offset = mine->m.offset;
    return 0;
}

static int querybuf(struct v4l2_buffer *buffer) {
    if (buffer->index >= (__u32)cam.count) return EINVAL;
    return tell(buffer, &cam.buffers[buffer->index].info);
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
    cam.buffers[index].info.flags &= ~V4L2_BUF_FLAG_DONE;
    return tell(buffer, &cam.buffers[index].info);
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

static const char *const INPUTS[] = {"Camera 1", "S-Video", "HDMI"};
static const struct { v4l2_std_id id; const char *name; } STANDARDS[] = {{V4L2_STD_PAL, "PAL"}, {V4L2_STD_NTSC, "NTSC"}};
static const struct v4l2_bt_timings TIMINGS[] = {
    {.width = 1920, .height = 1080, .pixelclock = 148500000, .hfrontporch = 88, .hsync = 44, .hbackporch = 148,
     .vfrontporch = 4, .vsync = 5, .vbackporch = 36},
    {.width = 720, .height = 576, .interlaced = 1, .pixelclock = 13500000, .hfrontporch = 12, .hsync = 63,
     .hbackporch = 69, .vfrontporch = 2, .vsync = 3, .vbackporch = 19, .il_vfrontporch = 2, .il_vsync = 3,
     .il_vbackporch = 20},
};

static int input(struct v4l2_input *answer) {
    __u32 index = answer->index;
    if (index >= COUNT(INPUTS)) return EINVAL;
    memset(answer, 0, sizeof *answer);
    answer->index = index;
    strcpy((char *)answer->name, INPUTS[index]);
    answer->type = V4L2_INPUT_TYPE_CAMERA;
    return 0;
}

static int set_input(int index) {
    if (index < 0 || index >= (int)COUNT(INPUTS)) return EINVAL;
    note("S_INPUT %s", INPUTS[index]);
    return 0;
}

static int standard(struct v4l2_standard *answer) {
    if (answer->index >= COUNT(STANDARDS)) return EINVAL;
    answer->id = STANDARDS[answer->index].id;
    strcpy((char *)answer->name, STANDARDS[answer->index].name);
    return 0;
}

static int set_standard(v4l2_std_id id) {
    for (size_t i = 0; i < COUNT(STANDARDS); i++)
        if (STANDARDS[i].id == id) {
            note("S_STD %s", STANDARDS[i].name);
            return 0;
        }
    return EINVAL;
}

static int enum_timings(struct v4l2_enum_dv_timings *answer) {
    if (answer->index >= COUNT(TIMINGS)) return EINVAL;
    answer->timings.type = V4L2_DV_BT_656_1120;
    answer->timings.bt = TIMINGS[answer->index];
    return 0;
}

static int query_timings(struct v4l2_dv_timings *answer) {
    if (!getenv("FAKE_V4L2_SIGNAL")) return ENOLINK;
    answer->type = V4L2_DV_BT_656_1120;
    answer->bt = TIMINGS[0];
    return 0;
}

static int set_timings(const struct v4l2_dv_timings *timings) {
    if (timings->type != V4L2_DV_BT_656_1120) return EINVAL;
    note("S_DV_TIMINGS %ux%u %llu", timings->bt.width, timings->bt.height, (unsigned long long)timings->bt.pixelclock);
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
        case VIDIOC_S_INPUT: return set_input(*(int *)arg);
        case VIDIOC_ENUMSTD: return standard(arg);
        case VIDIOC_S_STD: return set_standard(*(v4l2_std_id *)arg);
        case VIDIOC_ENUM_DV_TIMINGS: return enum_timings(arg);
        case VIDIOC_QUERY_DV_TIMINGS: return query_timings(arg);
        case VIDIOC_S_DV_TIMINGS: return set_timings(arg);
        case VIDIOC_G_PRIORITY: *(__u32 *)arg = V4L2_PRIORITY_INTERACTIVE; return 0;
        case VIDIOC_S_PRIORITY: return 0;
    }
    if (cam.metadata) return EINVAL;
    switch (request) {
        case VIDIOC_ENUM_FMT: return enum_fmt(arg);
        case VIDIOC_G_FMT:
        case VIDIOC_TRY_FMT:
        case VIDIOC_S_FMT:
            if (format->type != capture_type()) return EINVAL;
            if (format->type == V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE) return planar_fmt(file, request, &format->fmt.pix_mp);
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
