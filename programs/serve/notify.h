/* What systemd is told and gives, without its library: datagrams to NOTIFY_SOCKET, a socket in LISTEN_FDS. */
#ifndef SERVE_NOTIFY_H
#define SERVE_NOTIFY_H
/* Nothing happens where nobody listens. */
__attribute__((format(printf, 1, 2)))
void notify_send(const char *fmt, ...);
/* The first listening socket that was handed over, and of how many; -1: none. */
int notify_socket(long *count);
#endif
