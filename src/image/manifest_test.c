/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "image/manifest.h"
#include "image/platform.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEX2 "f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OCI "application/vnd.oci.image."
#define DOCKER "application/vnd.docker."
#define DESC(type, hex, more)                                                                      \
    "{\"mediaType\":\"" type "\",\"digest\":\"sha256:" hex "\",\"size\":12" more "}"
#define CONFIG DESC(OCI "config.v1+json", HEX, "")
#define LAYER DESC(OCI "layer.v1.tar+gzip", HEX, "")
#define IMAGE "{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":[" LAYER "]"
#define PLATFORM(os, arch) ",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" arch "\"}"
#define ENTRY(hex, more) DESC(OCI "manifest.v1+json", hex, more)
#define INDEX(entries) "{\"schemaVersion\":2,\"manifests\":[" entries "]}"

static void kinds(void **state)
{
    (void)state;
    struct manifest m;
    struct sm_error err;
    const char *text = IMAGE "}";
    assert_int_equal(manifest_parse(text, strlen(text), NULL, "m", &m, &err), SM_OK);
    assert_int_equal(m.kind, MEDIA_MANIFEST);
    assert_int_equal(m.n, 1);
    assert_int_equal(media_of(m.items[0].media_type), MEDIA_LAYER_GZIP);
    assert_int_equal(m.items[0].size_bytes, 12);
    assert_string_equal(m.config.digest, "sha256:" HEX);
    manifest_fini(&m);
    text = INDEX(ENTRY(HEX, PLATFORM("linux", "amd64") ",\"annotations\":{\"org.opencontainers."
                                                       "image.ref.name\":\"t\"}"));
    assert_int_equal(manifest_parse(text, strlen(text), OCI "index.v1+json", "m", &m, &err), SM_OK);
    assert_int_equal(m.kind, MEDIA_INDEX);
    assert_string_equal(m.items[0].ref_name, "t");
    assert_string_equal(m.items[0].architecture, "amd64");
    manifest_fini(&m);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *claim;
        int rc;
    } table[] = {
        {"{}", NULL, SM_ECORRUPT},
        {"null", NULL, SM_ECORRUPT},
        {"{\"schemaVersion\":2}", NULL, SM_ECORRUPT},
        {"{\"schemaVersion\":\"2\",\"manifests\":[]}", NULL, SM_ECORRUPT},
        {"{\"schemaVersion\":3,\"manifests\":[]}", NULL, SM_ECORRUPT},
        /* CVE-2021-41190 and its kin */
        {IMAGE ",\"manifests\":[]}", NULL, SM_ECORRUPT},
        {IMAGE ",\"manifests\":null}", OCI "manifest.v1+json", SM_ECORRUPT},
        {"{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}", OCI "index.v1+json", SM_ECORRUPT},
        {"{\"schemaVersion\":2,\"manifests\":[],\"config\":{}}", NULL, SM_ECORRUPT},
        {INDEX(""), OCI "manifest.v1+json", SM_ECORRUPT},
        {IMAGE "}", OCI "index.v1+json", SM_ECORRUPT},
        {IMAGE ",\"mediaType\":\"" OCI "index.v1+json\"}", NULL, SM_ECORRUPT},
        {IMAGE ",\"mediaType\":\"" OCI "manifest.v1+json\"}",
         DOCKER "distribution.manifest.v2+json", SM_ECORRUPT},
        {IMAGE ",\"mediaType\":\"text/plain\"}", NULL, SM_EUNSUPPORTED},
        {IMAGE ",\"fsLayers\":[]}", NULL, SM_ECORRUPT},
        {"{\"schemaVersion\":1,\"fsLayers\":[]}", NULL, SM_EUNSUPPORTED},
        /* descriptors */
        {INDEX("1"), NULL, SM_ECORRUPT},
        {INDEX("{}"), NULL, SM_ECORRUPT},
        {INDEX("{\"size\":1}"), NULL, SM_ECORRUPT},
        {INDEX("{\"digest\":\"sha256:" HEX "\"}"), NULL, SM_ECORRUPT},
        {INDEX("{\"digest\":\"sha256:" HEX "\",\"size\":-1}"), NULL, SM_ECORRUPT},
        {INDEX("{\"digest\":\"sha256:" HEX "\",\"size\":1.5}"), NULL, SM_ECORRUPT},
        {INDEX("{\"digest\":\"sha256:" HEX "\",\"size\":99999999999999999999}"), NULL, SM_ECORRUPT},
        {INDEX("{\"digest\":\"sha256:../../etc/passwd\",\"size\":1}"), NULL, SM_ECORRUPT},
        {INDEX("{\"digest\":\"sha256:ABCDEF6789abcdef0123456789abcdef0123456789abcdef0123456789abcd"
               "ef\",\"size\":1}"),
         NULL, SM_ECORRUPT},
        {INDEX("{\"digest\":\"sha256:" HEX "0\",\"size\":1}"), NULL, SM_ECORRUPT},
        {INDEX("{\"digest\":\"md5:" HEX "\",\"size\":1}"), NULL, SM_ECORRUPT},
        {INDEX("{\"digest\":\"sha512:" HEX HEX "\",\"size\":1}"), NULL, SM_EUNSUPPORTED},
        {INDEX(ENTRY(HEX, ",\"platform\":1")), NULL, SM_ECORRUPT},
        {INDEX(ENTRY(HEX, ",\"annotations\":[]")), NULL, SM_ECORRUPT},
        {"{\"schemaVersion\":2,\"layers\":[]}", NULL, SM_ECORRUPT},
        {"{\"schemaVersion\":2,\"config\":" CONFIG "}", NULL, SM_ECORRUPT},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct manifest m;
        struct sm_error err = {0};
        int rc =
            manifest_parse(table[i].text, strlen(table[i].text), table[i].claim, "m", &m, &err);
        if (rc != table[i].rc) {
            fail_msg("row %zu %s: %d (%s)", i, table[i].text, rc, err.text);
        }
        assert_int_equal(err.code, rc);
        assert_null(m.items);
    }
}

static void many(void **state)
{
    (void)state;
    struct {
        const char *head, *item, *tail;
        size_t n;
        int rc;
    } table[] = {
        {"{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":[" LAYER, "," LAYER, "]}", 63,
         SM_OK},
        {"{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":[" LAYER, "," LAYER, "]}", 64,
         SM_EUNSUPPORTED},
        {"{\"schemaVersion\":2,\"manifests\":[" ENTRY(HEX, ""), "," ENTRY(HEX, ""), "]}", 9999,
         SM_OK},
        {"{\"schemaVersion\":2,\"manifests\":[" ENTRY(HEX, ""), "," ENTRY(HEX, ""), "]}", 20000,
         SM_EUNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct buf b = {0};
        struct manifest m;
        struct sm_error err = {0};
        assert_int_equal(buf_printf(&b, "%s", table[i].head), 0);
        for (size_t k = 0; k < table[i].n; k++) {
            assert_int_equal(buf_append(&b, table[i].item, strlen(table[i].item)), 0);
        }
        assert_int_equal(buf_printf(&b, "%s", table[i].tail), 0);
        int rc = manifest_parse(b.data, b.len, NULL, "m", &m, &err);
        if (rc != table[i].rc) {
            fail_msg("row %zu: %d (%s)", i, rc, err.text);
        }
        if (!rc) {
            assert_int_equal(m.n, table[i].n + 1);
            manifest_fini(&m);
        }
        buf_fini(&b);
    }
}

static void platforms(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
        size_t chosen;
        const char *says;
    } table[] = {
        {INDEX(ENTRY(HEX, PLATFORM("linux", "arm64")) "," ENTRY(HEX, PLATFORM("linux", "amd64"))),
         SM_OK, 1, NULL},
        {INDEX(ENTRY(HEX, PLATFORM("windows", "amd64")) "," ENTRY(HEX, PLATFORM("linux", "amd64"))),
         SM_OK, 1, NULL},
        /* 32 bits when there are not 64 */
        {INDEX(ENTRY(HEX, PLATFORM("linux", "386")) "," ENTRY(HEX2, PLATFORM("linux", "amd64"))),
         SM_OK, 1, NULL},
        {INDEX(ENTRY(HEX, PLATFORM("linux", "arm")) "," ENTRY(HEX, PLATFORM("linux", "386"))),
         SM_OK, 1, NULL},
        {INDEX(ENTRY(HEX, "") "," ENTRY(HEX2, PLATFORM("linux", "386"))), SM_OK, 1, NULL},
        {INDEX(ENTRY(HEX, PLATFORM("windows", "386"))), SM_EUNSUPPORTED, 0, "windows/386"},
        /* two of ours: the first */
        {INDEX(ENTRY(HEX, PLATFORM("linux", "amd64")) "," ENTRY(HEX2, PLATFORM("linux", "amd64"))),
         SM_OK, 0, NULL},
        {INDEX(ENTRY(HEX, ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\",\"variant\":"
                          "\"v3\"}") "," ENTRY(HEX2, PLATFORM("linux", "amd64"))),
         SM_OK, 1, NULL},
        {INDEX(ENTRY(HEX, ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\",\"variant\":"
                          "\"v3\"}")),
         SM_EUNSUPPORTED, 0, "linux/amd64/v3"},
        {INDEX(ENTRY(HEX, PLATFORM("linux", "arm64")) "," ENTRY(HEX2, "")), SM_OK, 1, NULL},
        {INDEX(ENTRY(HEX, "")), SM_OK, 0, NULL},
        {INDEX(ENTRY(HEX, "") "," ENTRY(HEX, "")), SM_OK, 0, NULL},
        {INDEX(ENTRY(HEX, "") "," ENTRY(HEX2, "")), SM_EINVAL, 0, "several images"},
        {INDEX(""), SM_ENOTFOUND, 0, "no image"},
        {INDEX(ENTRY(HEX, PLATFORM("linux", "s390x")) "," ENTRY(HEX, PLATFORM("linux", "ppc64le"))),
         SM_EUNSUPPORTED, 0, "linux/s390x, linux/ppc64le"},
        {INDEX(ENTRY(HEX, PLATFORM("unknown", "unknown"))), SM_ENOTFOUND, 0, "no image"},
        {INDEX(ENTRY(HEX, ",\"annotations\":{\"vnd.docker.reference.type\":\"attestation-"
                          "manifest\"}") "," ENTRY(HEX2, "")),
         SM_OK, 1, NULL},
        {INDEX(DESC("application/x-odd", HEX, PLATFORM("linux", "amd64"))), SM_EUNSUPPORTED, 0,
         "application/x-odd"},
        {INDEX(DESC(DOCKER "distribution.manifest.v1+prettyjws", HEX, "")), SM_EUNSUPPORTED, 0,
         "schema 1"},
        {INDEX(DESC(DOCKER "distribution.manifest.list.v2+json", HEX, "")), SM_OK, 0, NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct manifest m;
        struct sm_error err = {0};
        const struct descriptor *entries[4];
        size_t chosen = 99;
        assert_int_equal(manifest_parse(table[i].text, strlen(table[i].text), NULL, "m", &m, &err),
                         SM_OK);
        for (size_t k = 0; k < m.n; k++) {
            entries[k] = &m.items[k];
        }
        int rc = platform_select(entries, m.n, "m", &chosen, &err);
        if (rc != table[i].rc || (!rc && chosen != table[i].chosen) ||
            (rc && !strstr(err.text, table[i].says))) {
            fail_msg("row %zu: %d, %zu (%s)", i, rc, chosen, err.text);
        }
        manifest_fini(&m);
    }
}

static void media(void **state)
{
    (void)state;
    assert_int_equal(media_of(NULL), MEDIA_UNKNOWN);
    assert_int_equal(media_of(""), MEDIA_UNKNOWN);
    assert_int_equal(media_of(OCI "layer.v1.tar"), MEDIA_LAYER_TAR);
    assert_int_equal(media_of(OCI "layer.v1.tar+zstd"), MEDIA_LAYER_ZSTD);
    assert_int_equal(media_of(OCI "layer.v1.tar+zstd+encrypted"), MEDIA_UNKNOWN);
    assert_int_equal(media_of(DOCKER "image.rootfs.diff.tar.gzip"), MEDIA_LAYER_GZIP);
    assert_true(media_is_foreign(DOCKER "image.rootfs.foreign.diff.tar.gzip"));
    assert_false(media_is_foreign(OCI "layer.v1.tar"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),     cmocka_unit_test(refused), cmocka_unit_test(many),
        cmocka_unit_test(platforms), cmocka_unit_test(media),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
