// SPDX-License-Identifier: Apache-2.0
/* A snapshot from one process to another, as descriptors: nothing is copied, and nothing has a name
 * that somebody would have to remove. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "base/err.h"
#include "base/io.h"

#define MAGIC "SMIMAGE1"
#define FILES (1 + SNAPSHOT_FILES_MAX) /* the manifest, and snapshot_files() */
#define FILES_MIN 3

union room {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(FILES * sizeof(int))];
};

static int send_files(int socket, const int *files, unsigned n, struct sm_error *err)
{
    char magic[] = MAGIC;
    union room room = {0};
    struct iovec part = {magic, sizeof magic};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = room.bytes,
                         .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    ssize_t sent;
    *c = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n * sizeof(int))};
    memcpy(CMSG_DATA(c), files, n * sizeof(int));
    do
        sent = sendmsg(socket, &msg, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof magic ? 0 : err_sys(err, "cannot hand over the image");
}

SM_API int sm_image_send(const sm_image *image, int socket, struct sm_error *err)
{
    const struct snapshot *s = image->snapshot;
    if (!s)
        return err_set(err, SM_EINVAL,
                       "only an image that is a snapshot can be handed to another process: any "
                       "process can open the store's");
    int manifest = memfd_create("manifest.json", MFD_CLOEXEC);
    if (manifest < 0 || io_write_full(manifest, s->manifest.data, s->manifest.len) != 0) {
        int rc = err_sys(err, "cannot write the image's manifest");
        if (manifest >= 0)
            close(manifest);
        return rc;
    }
    int files[FILES] = {manifest};
    int rc = send_files(socket, files, 1 + snapshot_files(s, files + 1), err);
    close(manifest);
    return rc;
}

static int receive_files(int socket, int files[FILES], unsigned *n_files, struct sm_error *err)
{
    char magic[sizeof MAGIC] = {0};
    union room room;
    struct iovec part = {magic, sizeof magic};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = room.bytes,
                         .msg_controllen = sizeof room.bytes};
    unsigned n = 0;
    ssize_t got;
    *n_files = 0;
    do
        got = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return err_sys(err, "cannot receive the image");
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            for (; n < FILES && c->cmsg_len >= CMSG_LEN((n + 1) * sizeof(int)); n++)
                memcpy(&files[n], CMSG_DATA(c) + n * sizeof(int), sizeof(int));
    *n_files = n;
    if (got != (ssize_t)sizeof magic || memcmp(magic, MAGIC, sizeof magic) != 0 ||
        msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || n < FILES_MIN)
        return err_set(err, SM_ECORRUPT, "what came from the other process is no image");
    return 0;
}

static int read_manifest(int fd, struct buf *out, struct sm_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_sys(err, "cannot look at the image's manifest");
    if (!S_ISREG(st.st_mode) || st.st_size > SNAPSHOT_MANIFEST_MAX)
        return err_set(err, SM_ECORRUPT, "the image's manifest is too large, or no file");
    if (buf_reserve(out, (size_t)st.st_size + 1) != 0)
        return err_set(err, SM_ENOMEM, "out of memory");
    ssize_t n = pread(fd, out->data, (size_t)st.st_size, 0);
    if (n < 0)
        return err_sys(err, "cannot read the image's manifest");
    out->len = (size_t)n;
    return 0;
}

SM_API int sm_image_receive(sm_store *store, int socket, sm_image **out, struct sm_error *err)
{
    struct buf manifest = {0};
    struct snapshot *snapshot;
    int files[FILES];
    unsigned n;
    *out = NULL;
    int rc = receive_files(socket, files, &n, err);
    rc = rc ? rc : read_manifest(files[0], &manifest, err);
    if (!rc) {
        rc = snapshot_take(manifest.data, manifest.len, files + 1, n - 1, &snapshot, err);
        n = 1;
    }
    buf_fini(&manifest);
    while (n-- > 0)
        close(files[n]);
    return rc ? rc : image_of_snapshot(store->store, store->data_dir, snapshot, out, err);
}
