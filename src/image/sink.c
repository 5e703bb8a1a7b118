/* SPDX-License-Identifier: Apache-2.0 */
#include "image/sink.h"

int sink_file(struct sink *s, const char *name, uint64_t size_bytes, struct sm_error *err)
{
    int rc = s->ops->file(s, name, size_bytes, err);
    return rc || size_bytes ? rc : s->ops->write(s, "", 0, err); /* an empty one ends at once */
}

int sink_write(struct sink *s, const void *data, size_t len, struct sm_error *err)
{
    return s->ops->write(s, data, len, err);
}

int sink_commit(struct sink *s, struct sm_error *err)
{
    return s->ops->commit(s, err);
}

void sink_free(struct sink *s)
{
    if (s) {
        s->ops->free(s);
    }
}
