/* Preloaded: writes to files below the folder FREEZE_FOLDER wait while the file FREEZE_WHILE exists, as those to a disk
   that does not answer. Nothing but kill -9 wakes them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static void wait_for_disk(int descriptor)
{
    const char *folder = getenv("FREEZE_FOLDER"), *frozen = getenv("FREEZE_WHILE");
    char link[64], path[4096];
    if (!folder || !frozen || access(frozen, F_OK))
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || strncmp(path, folder, strlen(folder)))
        return;
    while (!access(frozen, F_OK))
        usleep(10000);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int descriptor, const void *data, size_t size)
{
    wait_for_disk(descriptor);
    return NEXT(write)(descriptor, data, size);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    wait_for_disk(descriptor);
    return NEXT(writev)(descriptor, parts, count);
}

int fsync(int descriptor)
{
    wait_for_disk(descriptor);
    return NEXT(fsync)(descriptor);
}
