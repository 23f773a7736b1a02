/* The C library's calls that a program may reach a V4L2 device by. */
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static bool is_ours(const char *path) { return path && *path && !strcmp(path, device_path()); }

static int open_device(int flags) {
    int ends[2], error = 0;
    pthread_mutex_lock(&cam.lock);
    start();
    struct file *file = calloc(1, sizeof *file);
    if (cam.unplugged) error = ENOENT;
    else if (cam.denied) error = EACCES;
    else if (is_busy("open")) error = EBUSY;
    else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) error = errno;
    else if (!remember(ends[0], file)) error = EMFILE;
    if (error) free(file);
    else {
        file->other = ends[1];
        if (write(ends[0], "u", 1) != 1) abort(); /* never read; see camera.c */
        fcntl(ends[0], F_SETFL, flags & O_NONBLOCK);
        note("open");
    }
    pthread_mutex_unlock(&cam.lock);
    errno = error;
    return error ? -1 : ends[0];
}

#define MODE_FROM(flags)                                    \
    mode_t mode = 0;                                        \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                  \
        va_list args;                                       \
        va_start(args, flags);                              \
        mode = va_arg(args, mode_t);                        \
        va_end(args);                                       \
    }

int open(const char *path, int flags, ...) {
    MODE_FROM(flags)
    return is_ours(path) ? open_device(flags) : REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_FROM(flags)
    return is_ours(path) ? open_device(flags) : REAL(open64)(path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE_FROM(flags)
    return is_ours(path) ? open_device(flags) : REAL(openat)(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE_FROM(flags)
    return is_ours(path) ? open_device(flags) : REAL(openat64)(folder, path, flags, mode);
}

int __open_2(const char *path, int flags) { return is_ours(path) ? open_device(flags) : REAL(open)(path, flags); }
int __open64_2(const char *path, int flags) { return is_ours(path) ? open_device(flags) : REAL(open64)(path, flags); }

/* In the calls that every program makes all the time the real one is looked up before the lock is taken: the
 * dynamic linker has a lock of its own, and calls us with it held. */

int close(int fd) {
    __typeof__(&close) real = REAL(close);
    pthread_mutex_lock(&cam.lock);
    for (int i = 0; i < FILES; i++)
        if (cam.files[i].file && cam.files[i].fd == fd) {
            struct file *file = cam.files[i].file;
            cam.files[i].file = NULL;
            release(file);
            break;
        }
    pthread_mutex_unlock(&cam.lock);
    return real(fd);
}

static int duplicated(int fd, int copy) {
    pthread_mutex_lock(&cam.lock);
    struct file *file = file_of(fd);
    if (file && copy >= 0 && !remember(copy, file)) abort();
    pthread_mutex_unlock(&cam.lock);
    return copy;
}

static bool duplicates(int command) { return command == F_DUPFD || command == F_DUPFD_CLOEXEC; }

int fcntl(int fd, int command, ...) {
    va_list args;
    va_start(args, command);
    void *arg = va_arg(args, void *);
    va_end(args);
    int result = REAL(fcntl)(fd, command, arg);
    return duplicates(command) ? duplicated(fd, result) : result;
}

int fcntl64(int fd, int command, ...) {
    va_list args;
    va_start(args, command);
    void *arg = va_arg(args, void *);
    va_end(args);
    int result = REAL(fcntl64)(fd, command, arg);
    return duplicates(command) ? duplicated(fd, result) : result;
}

int dup(int fd) { return duplicated(fd, REAL(dup)(fd)); }

int ioctl(int fd, unsigned long request, ...) {
    __typeof__(&ioctl) real = REAL(ioctl);
    va_list args;
    va_start(args, request);
    void *arg = va_arg(args, void *);
    va_end(args);
    pthread_mutex_lock(&cam.lock);
    bool ours = file_of(fd) != NULL && _IOC_TYPE(request) == 'V';
    int error = ours ? answer(fd, request & 0xFFFFFFFF, arg) : 0;
    pthread_mutex_unlock(&cam.lock);
    if (!ours) return real(fd, request, arg);
    errno = error;
    return error ? -1 : 0;
}

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset) {
    __typeof__(&mmap64) real = REAL(mmap64);
    if (fd < 0) return real(at, size, protection, flags, fd, offset);
    pthread_mutex_lock(&cam.lock);
    struct file *file = file_of(fd);
    int target = file ? cam.memory : fd, slot = 0;
    while (file && slot < MAPS && cam.maps[slot].file) slot++;
    bool refused = file && (file->gone || cam.owner != file || slot == MAPS);
    void *got = refused ? MAP_FAILED : real(at, size, protection, flags, target, offset);
    if (refused) errno = file->gone ? ENODEV : EINVAL;
    else if (file && got != MAP_FAILED) {
        cam.maps[slot].at = got, cam.maps[slot].size = size, cam.maps[slot].file = file;
        file->uses++;
    }
    pthread_mutex_unlock(&cam.lock);
    return got;
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    return mmap64(at, size, protection, flags, fd, offset);
}

int munmap(void *at, size_t size) {
    __typeof__(&munmap) real = REAL(munmap);
    pthread_mutex_lock(&cam.lock);
    for (int i = 0; i < MAPS; i++)
        if (cam.maps[i].file && cam.maps[i].at == at) {
            struct file *file = cam.maps[i].file;
            cam.maps[i].file = NULL;
            release(file);
            break;
        }
    pthread_mutex_unlock(&cam.lock);
    return real(at, size);
}

/* The device path is an ordinary file, so that folders list it; these make it look like a device. */
#define DISGUISE(status)                                                    \
    do {                                                                    \
        (status)->st_mode = S_IFCHR | ((status)->st_mode & 0777);           \
        (status)->st_rdev = makedev(81, 42);                                \
    } while (0)

#define STAT(name, type)                                                    \
    int name(const char *path, struct type *status) {                       \
        int result = REAL(name)(path, status);                              \
        if (!result && is_ours(path)) DISGUISE(status);                     \
        return result;                                                      \
    }
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)

#define FSTATAT(name, type)                                                     \
    int name(int folder, const char *path, struct type *status, int flags) {    \
        int result = REAL(name)(folder, path, status, flags);                   \
        if (!result && is_ours(path)) DISGUISE(status);                         \
        return result;                                                          \
    }
FSTATAT(fstatat, stat)
FSTATAT(fstatat64, stat64)

#define FSTAT(name, type)                                                   \
    int name(int fd, struct type *status) {                                 \
        int result = REAL(name)(fd, status);                                \
        pthread_mutex_lock(&cam.lock);                                      \
        if (!result && file_of(fd)) DISGUISE(status);                       \
        pthread_mutex_unlock(&cam.lock);                                    \
        return result;                                                      \
    }
FSTAT(fstat, stat)
FSTAT(fstat64, stat64)

int statx(int folder, const char *path, int flags, unsigned mask, struct statx *status) {
    int result = REAL(statx)(folder, path, flags, mask, status);
    if (!result && is_ours(path)) {
        status->stx_mode = S_IFCHR | (status->stx_mode & 0777);
        status->stx_rdev_major = 81, status->stx_rdev_minor = 42;
    }
    return result;
}
