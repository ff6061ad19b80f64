/* A getaddrinfo that waits on request, to be preloaded by tests/test_dns_native.py.
 *
 * A host that begins with "slow" writes a byte to the descriptor in $BEGUN and is answered as
 * 127.0.0.1 once a byte can be read from the one in $GATE. "broken" fails with EMFILE. All
 * others are passed on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    resolver *real = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    char byte = 'b';
    if (host && strncmp(host, "slow", 4) == 0) {
        if (write(atoi(getenv("BEGUN")), &byte, 1) != 1 || read(atoi(getenv("GATE")), &byte, 1) < 0)
            return EAI_FAIL;
        host = "127.0.0.1";
    }
    if (host && strcmp(host, "broken") == 0) {
        errno = EMFILE;
        return EAI_SYSTEM;
    }
    return real(host, service, hints, found);
}
