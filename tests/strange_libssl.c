/* A libssl that answers wrongly on request, for tests/test_tls_engines.py.
 *
 * It depends on the real libraries and defines some of their functions itself. The one that is
 * named in $STRANGE fails or lies, in every call or, with " 2" behind the name, in every second
 * one; all else is passed on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static int is_strange(const char *name, int *calls) {
    const char *wanted = getenv("STRANGE");
    size_t size = strlen(name);
    if (!wanted || strncmp(wanted, name, size) || (wanted[size] && wanted[size] != ' '))
        return 0;
    return ++*calls % 2 == 0 || !wanted[size];
}

#define STRANGE(result, name, parameters, arguments, wrong)       \
    result name parameters {                                      \
        static int calls;                                         \
        if (is_strange(#name, &calls))                            \
            return wrong;                                         \
        return ((result(*) parameters)dlsym(RTLD_NEXT, #name)) arguments; \
    }

STRANGE(unsigned long, OpenSSL_version_num, (void), (), 0x40000000UL)
STRANGE(void *, SSL_get_SSL_CTX, (void *ssl), (ssl), NULL)
STRANGE(void *, SSL_get_rbio, (void *ssl), (ssl), NULL)
STRANGE(void *, SSL_get_wbio, (void *ssl), (ssl), NULL)
STRANGE(int, BIO_get_new_index, (void), (), -1)
STRANGE(void *, BIO_meth_new, (int type, const char *name), (type, name), NULL)
STRANGE(int, BIO_meth_set_ctrl, (void *kind, void *function), (kind, function), 0)
STRANGE(void *, BIO_new, (void *kind), (kind), NULL)
STRANGE(int, BIO_up_ref, (void *bio), (bio), 0)
