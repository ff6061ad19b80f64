/* The limit: what a server can reach on this machine without Python. One thread, edge-triggered
 * epoll, one recv and one send a message.
 *
 *     limit tcp | unix PATH | udp | http | tls CERTIFICATE_AND_KEY
 *
 * Echoes (http: answers a fixed page) and prints {"ready": PORT} once it listens. Built by
 * environment.py; TLS needs OpenSSL's headers and -DWITH_TLS.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
static SSL_CTX *tls_context;
#else
typedef void SSL;
#endif

#define MAX_DESCRIPTORS 65536
#define LISTENER UINT64_MAX
#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

static const char PAGE[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nHello world\n";
static char buffer[512 * 1024];
static int poller;

struct connection {
  int descriptor;
  SSL *tls;
  char *waiting; /* what the kernel did not take yet */
  size_t waiting_start, waiting_length, waiting_capacity;
};
static struct connection connections[MAX_DESCRIPTORS];
static enum { ECHO, HTTP } answer = ECHO;

static void check(int good, const char *what) {
  if (good) return;
  perror(what);
  exit(2);
}

static void drop(struct connection *c) {
  close(c->descriptor);
#ifdef WITH_TLS
  if (c->tls) SSL_free(c->tls);
#endif
  free(c->waiting);
  memset(c, 0, sizeof *c);
}

/* Keeps what could not be sent, behind what waits already. */
static void keep(struct connection *c, const char *data, size_t length) {
  memmove(c->waiting, c->waiting + c->waiting_start, c->waiting_length);
  c->waiting_start = 0;
  if (c->waiting_length + length > c->waiting_capacity) {
    c->waiting_capacity = 2 * (c->waiting_length + length);
    c->waiting = realloc(c->waiting, c->waiting_capacity);
    check(c->waiting != NULL, "realloc");
  }
  memcpy(c->waiting + c->waiting_length, data, length);
  c->waiting_length += length;
}

/* 0, or -1 if the connection is broken. */
static int write_out(struct connection *c, const char *data, size_t length) {
  while (length > 0 && c->waiting_length == 0) {
    ssize_t sent = send(c->descriptor, data, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return -1;
    if (sent < 0) break;
    data += sent;
    length -= (size_t)sent;
  }
  if (length > 0) keep(c, data, length);
  return 0;
}

static int flush(struct connection *c) {
  while (c->waiting_length > 0) {
    ssize_t sent = send(c->descriptor, c->waiting + c->waiting_start, c->waiting_length, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? 0 : -1;
    c->waiting_start += (size_t)sent;
    c->waiting_length -= (size_t)sent;
  }
  return 0;
}

/* Answers what has come; 0, or -1 if the connection is to end. */
static int answer_plain(struct connection *c, size_t got) {
  if (answer == ECHO) return write_out(c, buffer, got);
  if (got >= 4 && memcmp(buffer + got - 4, "\r\n\r\n", 4) == 0) return write_out(c, PAGE, sizeof PAGE - 1);
  return 0;
}

/* The same through OpenSSL, which finds records in memory and leaves them there: all that came with
 * one recv goes back with one send. */
#ifdef WITH_TLS
static int answer_tls(struct connection *c, size_t got) {
  static char plain[SSL3_RT_MAX_PLAIN_LENGTH];
  int count;
  check(BIO_write(SSL_get_rbio(c->tls), buffer, (int)got) == (int)got, "BIO_write");
  ERR_clear_error();
  while ((count = SSL_read(c->tls, plain, sizeof plain)) > 0)
    check(SSL_write(c->tls, plain, count) == count, "SSL_write");
  if (SSL_get_error(c->tls, count) != SSL_ERROR_WANT_READ) return -1;
  while ((count = BIO_read(SSL_get_wbio(c->tls), buffer, sizeof buffer)) > 0)
    if (write_out(c, buffer, (size_t)count)) return -1;
  return 0;
}
#else
static int answer_tls(struct connection *c, size_t got) { return answer_plain(c, got); }
#endif

static int read_in(struct connection *c) {
  ssize_t got;
  do {
    got = recv(c->descriptor, buffer, sizeof buffer, 0);
    if (got == 0) return -1;
    if (got < 0) return errno == EAGAIN ? 0 : -1;
    if (c->tls ? answer_tls(c, (size_t)got) : answer_plain(c, (size_t)got)) return -1;
  } while (got == (ssize_t)sizeof buffer); /* after a short read nothing more is there */
  return 0;
}

static void echo_datagrams(int listener) {
  struct sockaddr_in from;
  for (;;) {
    socklen_t length = sizeof from;
    ssize_t got = recvfrom(listener, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
    if (got < 0) return;
    sendto(listener, buffer, (size_t)got, 0, (struct sockaddr *)&from, length);
  }
}

static void accept_all(int listener, int family) {
  static const int one = 1;
  for (;;) {
    int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (descriptor < 0) return;
    if (family == AF_INET) setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct connection *c = &connections[descriptor];
    c->descriptor = descriptor;
#ifdef WITH_TLS
    if (tls_context) {
      c->tls = SSL_new(tls_context);
      SSL_set_bio(c->tls, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
      SSL_set_accept_state(c->tls);
    }
#endif
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u64 = (uint64_t)descriptor};
    check(epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event) == 0, "epoll_ctl");
  }
}

static int listen_unix(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  check(strlen(path) < sizeof address.sun_path, path);
  strcpy(address.sun_path, path);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  check(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, path);
  check(listen(listener, 4096) == 0, "listen");
  return listener;
}

static int listen_ip(int type, int *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, type | SOCK_NONBLOCK, 0);
  check(bind(listener, (struct sockaddr *)&address, length) == 0, "bind");
  check(getsockname(listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
  if (type == SOCK_STREAM) check(listen(listener, 4096) == 0, "listen");
  *port = ntohs(address.sin_port);
  return listener;
}

static void start_tls(const char *certificate_and_key) {
#ifdef WITH_TLS
  tls_context = SSL_CTX_new(TLS_server_method());
  SSL_CTX_set_min_proto_version(tls_context, TLS1_3_VERSION);
  check(SSL_CTX_use_certificate_chain_file(tls_context, certificate_and_key) == 1, certificate_and_key);
  check(SSL_CTX_use_PrivateKey_file(tls_context, certificate_and_key, SSL_FILETYPE_PEM) == 1, certificate_and_key);
#else
  fprintf(stderr, "built without TLS: no use of %s\n", certificate_and_key);
  exit(2);
#endif
}

int main(int count, char **arguments) {
  const char *kind = count > 1 ? arguments[1] : "", *argument = count > 2 ? arguments[2] : "";
  int port = 0, listener, datagrams = strcmp(kind, "udp") == 0, family = strcmp(kind, "unix") ? AF_INET : AF_UNIX;
  signal(SIGPIPE, SIG_IGN);
  if (strcmp(kind, "http") == 0) answer = HTTP;
  if (strcmp(kind, "tls") == 0) start_tls(argument);
  listener = family == AF_UNIX ? listen_unix(argument) : listen_ip(datagrams ? SOCK_DGRAM : SOCK_STREAM, &port);
  poller = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = LISTENER}, events[1024];
  check(epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) == 0, "epoll_ctl");
  printf("{\"ready\": %d}\n", port);
  fflush(stdout);
  for (;;) {
    int ready = epoll_wait(poller, events, LENGTH(events), -1);
    for (int i = 0; i < ready; i++) {
      if (events[i].data.u64 == LISTENER) {
        if (datagrams) echo_datagrams(listener);
        else accept_all(listener, family);
        continue;
      }
      struct connection *c = &connections[events[i].data.u64];
      if (events[i].events & EPOLLOUT && flush(c)) drop(c);
      else if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && read_in(c)) drop(c);
    }
  }
}
