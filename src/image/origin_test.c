/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image/origin.h"

static void urls(void **state)
{
    (void)state;
    static const struct {
        const char *url, *base, *full, *host;
        unsigned port;
        bool https;
    } good[] = {
        {"https://Reg.io/v2/", NULL, "https://reg.io/v2/", "reg.io", 443, true},
        {"http://127.0.0.1:5000/x?y=z", NULL, "http://127.0.0.1:5000/x?y=z", "127.0.0.1", 5000,
         false},
        {"https://[::1]:1/", NULL, "https://[::1]:1/", "::1", 1, true},
        {"/a/b", "https://reg.io:8443/c/d", "https://reg.io:8443/a/b", "reg.io", 8443, true},
        {"//cdn.io/x", "https://reg.io/c", "https://cdn.io/x", "cdn.io", 443, true},
        {"x", "https://reg.io/c/d", "https://reg.io/c/x", "reg.io", 443, true},
    };
    static const char *const bad[] = {
        "",
        "ftp://x/",
        "file:///etc/passwd",
        "https://",
        "https://u@x/",
        "https://u:p@x/",
        "x y z",
        "https://x:99999/",
        "gopher://x",
        "//",
        "https://[::1%25eth0]/",
    };
    char *full = malloc(URL_MAX);
    struct origin o;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct sm_error err = {0};
        if (origin_of(good[i].url, good[i].base, "it", full, &o, &err)) {
            fail_msg("%s: %s", good[i].url, err.text);
        }
        assert_string_equal(o.host, good[i].host);
        assert_int_equal(o.port, good[i].port);
        assert_int_equal(o.https, good[i].https);
        if (good[i].base) {
            assert_string_equal(full, good[i].full);
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (origin_of(bad[i], NULL, "it", full, &o, NULL) != SM_ECORRUPT) {
            fail_msg("%s was taken for an origin: %s", bad[i], o.host);
        }
    }
    char *longer = malloc(URL_MAX + 64);
    memset(longer, 'a', URL_MAX + 63);
    memcpy(longer, "https://x/", 10);
    longer[URL_MAX + 63] = '\0';
    assert_int_equal(origin_of(longer, NULL, "it", full, &o, NULL), SM_ECORRUPT);
    free(longer);
    free(full);
}

static void reaches(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        enum reach reach;
    } table[] = {
        {"127.0.0.1", REACH_LOOPBACK},
        {"127.255.1.2", REACH_LOOPBACK},
        {"127.1", REACH_LOOPBACK},
        {"2130706433", REACH_LOOPBACK},
        {"0x7f.1", REACH_LOOPBACK},
        {"0.0.0.0", REACH_LOOPBACK},
        {"localhost", REACH_LOOPBACK},
        {"x.localhost", REACH_LOOPBACK},
        {"::1", REACH_LOOPBACK},
        {"::", REACH_LOOPBACK},
        {"::ffff:127.0.0.1", REACH_LOOPBACK},
        {"64:ff9b::7f00:1", REACH_LOOPBACK},
        {"169.254.169.254", REACH_LINK},
        {"fe80::1", REACH_LINK},
        {"224.0.0.1", REACH_LINK},
        {"255.255.255.255", REACH_LINK},
        {"ff02::1", REACH_LINK},
        {"2002:a9fe:a9fe::", REACH_LINK},
        {"10.0.0.1", REACH_PRIVATE},
        {"172.16.0.1", REACH_PRIVATE},
        {"172.31.255.255", REACH_PRIVATE},
        {"192.168.1.1", REACH_PRIVATE},
        {"100.64.0.1", REACH_PRIVATE},
        {"fd12::1", REACH_PRIVATE},
        {"172.32.0.1", REACH_PUBLIC},
        {"100.128.0.1", REACH_PUBLIC},
        {"8.8.8.8", REACH_PUBLIC},
        {"2606:4700::1", REACH_PUBLIC},
        {"localhost.com", REACH_PUBLIC},
        {"example.com", REACH_PUBLIC},
        {"169.253.0.1", REACH_PUBLIC},
        {"11.0.0.1", REACH_PUBLIC},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (reach_of_host(table[i].host) != table[i].reach) {
            fail_msg("%s is in %s", table[i].host, reach_name(reach_of_host(table[i].host)));
        }
    }
}

static void owners(void **state)
{
    (void)state;
    static const char *const same[][2] = {
        {"registry-1.docker.io", "auth.docker.io"},
        {"ghcr.io", "ghcr.io"},
        {"registry.gitlab.com", "gitlab.com"},
        {"gitlab.example.org", "registry.example.org"},
        {"quay.io", "auth.quay.io"},
        {"127.0.0.1", "127.0.0.1"},
        {"reg.example.co.uk", "auth.example.co.uk"},
        {"::1", "::1"},
    };
    static const char *const different[][2] = {
        {"quay.io", "evil.io"},
        {"example.co.uk", "evil.co.uk"},
        {"127.0.0.1", "localhost"},
        {"10.0.0.1", "11.0.0.1"},
        {"a.b.com", "xb.com"},
        {"reg.com", "reg.com.evil.org"},
        {"registry-1.docker.io", "dockerxio"},
        {"io", "quay.io"},
        {"a.com", "com"},
        {"1.2.3.4", "3.4"},
        {"", "x.com"},
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_true(origin_same_owner(same[i][0], same[i][1]));
    }
    for (size_t i = 0; i < sizeof different / sizeof different[0]; i++) {
        if (origin_same_owner(different[i][0], different[i][1])) {
            fail_msg("%s trusts %s", different[i][0], different[i][1]);
        }
    }
}

static const char *proxy_of(const char *url)
{
    struct origin o;
    assert_int_equal(origin_of(url, NULL, "it", NULL, &o, NULL), SM_OK);
    return origin_proxy(&o);
}

static void proxies(void **state)
{
    (void)state;
    static const char *const names[] = {"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY",
                                        "all_proxy",  "ALL_PROXY",  "no_proxy",    "NO_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        unsetenv(names[i]);
    }
    assert_null(proxy_of("https://a.io/"));
    setenv("HTTP_PROXY", "http://cgi", 1);
    assert_null(proxy_of("http://a.io/"));
    setenv("http_proxy", "http://p1", 1);
    setenv("HTTPS_PROXY", "http://p2", 1);
    assert_string_equal(proxy_of("http://a.io/"), "http://p1");
    assert_string_equal(proxy_of("https://a.io/"), "http://p2");
    assert_null(proxy_of("https://localhost:5000/"));
    assert_null(proxy_of("https://127.0.0.1/"));
    setenv("no_proxy", "b.io, .c.io,10.0.0.1", 1);
    assert_null(proxy_of("https://b.io/"));
    assert_null(proxy_of("https://x.b.io/"));
    assert_null(proxy_of("https://x.c.io/"));
    assert_null(proxy_of("https://10.0.0.1/"));
    assert_non_null(proxy_of("https://xb.io/"));
    setenv("no_proxy", "*", 1);
    assert_null(proxy_of("https://a.io/"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),
        cmocka_unit_test(reaches),
        cmocka_unit_test(owners),
        cmocka_unit_test(proxies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
