// SPDX-License-Identifier: Apache-2.0
// Sockets within the guest, and waiting for descriptors.
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

static void pairs(void) {
    int s[2];
    char buffer[64];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) == 0, "socketpair");
    send(s[0], "hello\n", 6, 0);
    recv(s[1], buffer, sizeof buffer, MSG_PEEK);
    recv(s[1], buffer, 3, 0);
    recv(s[1], buffer, sizeof buffer, 0);
    recv(s[1], buffer, sizeof buffer, MSG_DONTWAIT);
    struct iovec parts[2] = {{(void*)"one", 3}, {(void*)"two", 3}};
    char control[CMSG_SPACE(2 * sizeof(int))];
    memset(control, 0, sizeof control);
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(c), (int[2]){0, 1}, 2 * sizeof(int));
    sendmsg(s[0], &message, 0);
    struct iovec in = {buffer, sizeof buffer};
    struct msghdr received = {
        .msg_iov = &in, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(s[1], &received, MSG_CMSG_CLOEXEC) > 0 && received.msg_controllen != 0) {
        int fds[2];
        memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&received)), sizeof fds);
        close(fds[0]);
        close(fds[1]);
    }
    int value;
    socklen_t length = sizeof value;
    getsockopt(s[0], SOL_SOCKET, SO_TYPE, &value, &length);
    struct ucred peer;
    length = sizeof peer;
    getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &peer, &length);
    value = 1;
    setsockopt(s[0], SOL_SOCKET, SO_PASSCRED, &value, sizeof value);
    shutdown(s[0], SHUT_WR);
    read(s[1], buffer, sizeof buffer);
    close(s[0]);
    send(s[1], "x", 1, MSG_NOSIGNAL);
    close(s[1]);
}

static void datagrams(void) {
    char buffer[64];
    const int s = socket(AF_INET, SOCK_DGRAM, 0), t = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    bind(s, (struct sockaddr*)&address, sizeof address);
    getsockname(s, (struct sockaddr*)&address, &length);
    sendto(t, "datagram", 8, 0, (struct sockaddr*)&address, sizeof address);
    struct sockaddr_in from;
    length = sizeof from;
    recvfrom(s, buffer, sizeof buffer, 0, (struct sockaddr*)&from, &length);
    connect(t, (struct sockaddr*)&address, sizeof address);
    getpeername(t, (struct sockaddr*)&from, &length);
    struct iovec part = {buffer, 4};
    struct mmsghdr messages[3];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < 3; i++) {
        messages[i].msg_hdr.msg_iov = &part;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    sendmmsg(t, messages, 3, 0);
    recvmmsg(s, messages, 3, MSG_DONTWAIT, NULL);
    recvfrom(s, buffer, sizeof buffer, MSG_DONTWAIT, NULL, NULL);
    close(s);
    close(t);
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const int u = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    bind(u, (struct sockaddr*)&v6, sizeof v6);
    length = sizeof v6;
    getsockname(u, (struct sockaddr*)&v6, &length);
    close(u);
    const int n = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    struct sockaddr_nl netlink = {.nl_family = AF_NETLINK};
    bind(n, (struct sockaddr*)&netlink, sizeof netlink);
    close(n);
}

static void streams(int family) {
    char buffer[64];
    struct sockaddr_storage address;
    memset(&address, 0, sizeof address);
    socklen_t length = sizeof(struct sockaddr_in);
    if (family == AF_INET) {
        struct sockaddr_in* in = (struct sockaddr_in*)&address;
        in->sin_family = AF_INET;
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        struct sockaddr_un* un = (struct sockaddr_un*)&address;
        un->sun_family = AF_UNIX;
        strcpy(un->sun_path, "/tmp/socket");
        length = sizeof *un;
        unlink("/tmp/socket");
    }
    const int s = socket(family, SOCK_STREAM, 0);
    int one = 1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    check(bind(s, (struct sockaddr*)&address, length) == 0, "bind");
    listen(s, 5);
    length = sizeof address;
    getsockname(s, (struct sockaddr*)&address, &length);
    const pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        const int c = socket(family, SOCK_STREAM, 0);
        connect(c, (struct sockaddr*)&address, length);
        setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        write(c, "request", 7);
        read(c, buffer, sizeof buffer);
        shutdown(c, SHUT_RDWR);
        _exit(0);
    }
    struct sockaddr_storage from;
    socklen_t from_length = sizeof from;
    const int a = accept4(s, (struct sockaddr*)&from, &from_length, SOCK_CLOEXEC);
    check(a >= 0, "accept4");
    read(a, buffer, sizeof buffer);
    write(a, "the reply to the request, longer than it", 40);
    read(a, buffer, sizeof buffer);
    close(a);
    close(s);
    waitpid(child, NULL, 0);
    // Nobody listens any more.
    const int late = socket(family, SOCK_STREAM, 0);
    connect(late, (struct sockaddr*)&address, length);
    close(late);
}

void run_sockets(unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) {
        pairs();
        datagrams();
        streams(AF_INET);
        streams(AF_UNIX);
    }
}

// --- poll and its kin ---

static void ready(void) {
    int p[2];
    check(pipe(p) == 0, "pipe");
    struct pollfd fds[40];
    for (int i = 0; i < 40; i++)
        fds[i] = (struct pollfd){i % 2 == 0 ? p[0] : p[1], POLLIN | POLLOUT, 0};
    poll(fds, 40, 0);
    poll(fds, 3, 10);
    poll(NULL, 0, 1);
    fds[0] = (struct pollfd){999, POLLIN | POLLPRI | POLLRDHUP, 0};
    poll(fds, 2, -1);
    struct timespec t = {0, 1000000};
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    fds[0] = (struct pollfd){p[0], POLLIN, 0};
    ppoll(fds, 1, &t, &mask);
    fd_set readable, writable;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(p[0], &readable);
    FD_SET(p[1], &writable);
    struct timeval tv = {0, 1000};
    select(p[1] + 1, &readable, &writable, NULL, &tv);
    FD_ZERO(&readable);
    FD_SET(p[0], &readable);
    select(p[1] + 1, &readable, NULL, NULL, &tv);
    FD_SET(p[0], &readable);
    pselect(p[1] + 1, &readable, NULL, NULL, &t, &mask);
    FD_SET(500, &readable);
    select(501, &readable, NULL, NULL, &tv);
    const int e = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLET, {.u64 = 0x1234567890}};
    epoll_ctl(e, EPOLL_CTL_ADD, p[1], &event);
    epoll_ctl(e, EPOLL_CTL_ADD, p[1], &event);
    event.events = EPOLLIN | EPOLLONESHOT;
    epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event);
    struct epoll_event events[4];
    epoll_wait(e, events, 4, 0);
    epoll_pwait(e, events, 4, 1, &mask);
    write(p[1], "x", 1);
    epoll_wait(e, events, 4, -1);
    syscall(SYS_epoll_pwait2, e, events, 4, &t, NULL, 8);
    epoll_ctl(e, EPOLL_CTL_DEL, p[1], NULL);
    const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec spec = {{0, 0}, {0, 200000}}, old;
    timerfd_settime(timer, 0, &spec, &old);
    struct pollfd fd = {timer, POLLIN, 0};
    poll(&fd, 1, -1);
    uint64_t times;
    read(timer, &times, sizeof times);
    timerfd_gettime(timer, &spec);
    close(timer);
    close(e);
    close(p[0]);
    close(p[1]);
}

/// Two processes that hand each other one byte.
static void ping_pong(void) {
    int there[2], back[2];
    char byte = 0;
    check(pipe(there) == 0 && pipe(back) == 0, "pipe");
    const pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1)
            write(back[1], &byte, 1);
        _exit(0);
    }
    for (int i = 0; i < 20; i++) {
        byte = (char)('a' + i);
        write(there[1], &byte, 1);
        read(back[0], &byte, 1);
    }
    close(there[1]);
    waitpid(child, NULL, 0);
    close(there[0]);
    close(back[0]);
    close(back[1]);
}

void run_waiting(unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) {
        ready();
        ping_pong();
    }
}
