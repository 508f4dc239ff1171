#include "serve/sandbox.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- landlock: files, ports, signals ------------------------------------------------------------ */

/* Headers of Debian 12 know less than newer kernels do. */
enum { NET_BIND = 1, NET_CONNECT = 2, SCOPE_ABSTRACT = 1, SCOPE_SIGNAL = 2, RULE_NET_PORT = 2 };
struct ruleset { uint64_t fs, net, scoped; };
struct net_rule { uint64_t access, port; };

static const uint64_t all_fs_1 = (1u << 13) - 1, fs_refer = 1u << 13, fs_truncate = 1u << 14, fs_ioctl = 1u << 15;
static const uint64_t reads = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;

static uint64_t handled_fs(int abi)
{
    return all_fs_1 | (abi >= 2 ? fs_refer : 0) | (abi >= 3 ? fs_truncate : 0) | (abi >= 5 ? fs_ioctl : 0);
}

static void allow_path(int ruleset, const char *path, uint64_t access, uint64_t handled)
{
    struct stat st;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return;
    const uint64_t files = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE
                           | fs_truncate | fs_ioctl;
    if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) access &= files;
    struct landlock_path_beneath_attr rule = { .allowed_access = access & handled, .parent_fd = fd };
    syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(fd);
}

/* A folder with what its links mean: those of Hugging Face's caches lead to files elsewhere. */
static void allow_read(int ruleset, const char *path, uint64_t handled, int depth)
{
    char name[4096];
    DIR *dir = opendir(path);
    allow_path(ruleset, path, reads, handled);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        int n = snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (*e->d_name == '.' || n < 0 || (size_t)n >= sizeof name) continue;
        if (e->d_type == DT_LNK) allow_path(ruleset, name, LANDLOCK_ACCESS_FS_READ_FILE, handled);
        else if (e->d_type == DT_DIR && depth) allow_read(ruleset, name, handled, depth - 1);
    }
    if (dir) closedir(dir);
}

/* What the C library, the thread team and drivers look at. */
static const char *const system_paths[] = { "/usr", "/lib", "/lib64", "/proc", "/sys", "/etc", "/dev/null",
                                            "/dev/urandom", "/run/systemd/notify" };

static void allow_all(int ruleset, const struct sandbox *s, uint64_t handled, int abi)
{
    for (size_t i = 0; i < sizeof system_paths / sizeof *system_paths; i++)
        allow_path(ruleset, system_paths[i], reads | LANDLOCK_ACCESS_FS_EXECUTE, handled);
    for (size_t i = 0; i < s->n_read; i++) allow_path(ruleset, s->read[i], reads, handled);
    for (size_t i = 0; i < s->n_models; i++) allow_read(ruleset, s->models[i], handled, 1);
    for (size_t i = 0; i < s->n_write; i++)
        allow_path(ruleset, s->write[i], reads | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE
                   | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR | fs_truncate | fs_refer, handled);
    struct net_rule net = { .access = NET_BIND, .port = (uint64_t)s->port };
    if (abi >= 4 && s->port) syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &net, 0);
}

stretto_status sandbox_files(const struct sandbox *s, struct buffer *words)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return buffer_str(words, "no_new_privs is not there");
    TRY(buffer_str(words, "no new privileges"));
    if (abi < 1) return buffer_str(words, ", no landlock in this kernel");
    struct ruleset r = { .fs = handled_fs((int)abi), .net = abi >= 4 ? NET_BIND | NET_CONNECT : 0,
                         .scoped = abi >= 6 ? SCOPE_ABSTRACT | SCOPE_SIGNAL : 0 };
    size_t size = abi >= 6 ? sizeof r : abi >= 4 ? offsetof(struct ruleset, scoped) : offsetof(struct ruleset, net);
    int fd = (int)syscall(SYS_landlock_create_ruleset, &r, size, 0);
    if (fd < 0) return buffer_printf(words, ", landlock refuses: %s", strerror(errno));
    allow_all(fd, s, r.fs, (int)abi);
    long done = syscall(SYS_landlock_restrict_self, fd, 0);
    int why = errno;
    close(fd);
    if (done != 0) return buffer_printf(words, ", landlock refuses: %s", strerror(why));
    return buffer_printf(words, ", landlock %ld (files%s%s)", abi, abi >= 4 ? ", ports" : "",
                         abi >= 6 ? ", signals and abstract sockets" : "");
}

/* ---- seccomp: calls of the kernel --------------------------------------------------------------- */

/* What a server that has everything open has no use for, and whoever took it over would want. A list of what is
 * refused, because what the C library calls differs from version to version. */
static const int refused[] = {
#define X(name) SYS_##name,
    X(execve) X(execveat) X(process_vm_readv) X(process_vm_writev) X(socket) X(socketpair) X(connect)
    X(mount) X(umount2) X(pivot_root) X(chroot) X(setns) X(unshare) X(bpf) X(perf_event_open) X(init_module)
    X(finit_module) X(delete_module) X(kexec_load) X(reboot) X(swapon) X(swapoff) X(keyctl) X(add_key) X(request_key)
    X(setuid) X(setgid) X(setreuid) X(setregid) X(setresuid) X(setresgid) X(setgroups) X(capset) X(personality)
    X(userfaultfd) X(open_by_handle_at) X(name_to_handle_at) X(acct) X(quotactl) X(settimeofday) X(clock_settime)
    X(sethostname) X(setdomainname) X(io_uring_setup) X(io_uring_enter) X(io_uring_register) X(pidfd_getfd)
    X(process_madvise) X(move_mount) X(open_tree) X(fsopen) X(fsmount) X(symlinkat) X(linkat) X(mknodat)
    X(fchownat) X(fchown)
#undef X
#if !defined(__SANITIZE_ADDRESS__)             /* which looks for leaks by it */
    SYS_ptrace,
#endif
#if defined(__x86_64__)
    SYS_fork, SYS_vfork, SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_link, SYS_symlink, SYS_mknod, SYS_chown,
#endif
};

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

stretto_status sandbox_calls(struct buffer *words)
{
#ifdef ARCH
    enum { N = sizeof refused / sizeof *refused, HEAD = 6 };
    struct sock_filter code[HEAD + N + 2];
    const unsigned number = offsetof(struct seccomp_data, nr), arch = offsetof(struct seccomp_data, arch);
    size_t n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, arch);
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number);
    /* The other numbering of x86-64 processors (x32). */
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    for (size_t i = 0; i < N; i++)
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)refused[i],
                                                 (unsigned char)(N - i), 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog program = { .len = (unsigned short)n, .filter = code };
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
        return buffer_printf(words, ", no seccomp: %s", strerror(errno));
    return buffer_printf(words, ", seccomp (%d calls refused)", (int)N);
#else
    return buffer_str(words, ", no seccomp on this processor");
#endif
}
