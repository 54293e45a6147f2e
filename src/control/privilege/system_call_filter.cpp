// SPDX-License-Identifier: Apache-2.0
#include "control/privilege/system_call_filter.hpp"

#include <linux/audit.h>
#include <linux/fs.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <scsi/sg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "base/sanitizer.hpp"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

namespace perilune::control::privilege {
namespace {

#if defined(__x86_64__)
constexpr std::uint32_t this_machine = AUDIT_ARCH_X86_64;
constexpr std::uint32_t first_foreign_number = 0x40000000;  // the x32 interface to the same kernel
#elif defined(__aarch64__)
constexpr std::uint32_t this_machine = AUDIT_ARCH_AARCH64;
constexpr std::uint32_t first_foreign_number = 0;  // there is none
#else
#error "the numbers of this machine's system calls are not known here"
#endif

// --- what a server needs after its start

constexpr int server_calls[] = {
    // memory (mmap and mprotect have a rule of their own)
    __NR_brk,
    __NR_munmap,
    __NR_mremap,
    __NR_madvise,
    // threads, signals, the end
    __NR_futex,
    __NR_set_robust_list,
    __NR_rseq,
    __NR_set_tid_address,
    __NR_sched_yield,
    __NR_sched_getaffinity,
    __NR_rt_sigaction,
    __NR_rt_sigprocmask,
    __NR_rt_sigreturn,
    __NR_sigaltstack,
    __NR_restart_syscall,
    __NR_exit,
    __NR_exit_group,
    __NR_signalfd4,
    // time and waiting
    __NR_clock_gettime,
    __NR_clock_getres,
    __NR_clock_nanosleep,
    __NR_nanosleep,
    __NR_gettimeofday,
    __NR_ppoll,
    __NR_epoll_create1,
    __NR_epoll_ctl,
    __NR_epoll_pwait,
    __NR_epoll_pwait2,
    __NR_eventfd2,
    // the rings that are there
    __NR_io_uring_enter,
    __NR_io_uring_register,
    // files
    __NR_openat,
    __NR_close,
    __NR_read,
    __NR_write,
    __NR_readv,
    __NR_writev,
    __NR_pread64,
    __NR_pwrite64,
    __NR_preadv,
    __NR_pwritev,
    __NR_preadv2,
    __NR_pwritev2,
    __NR_lseek,
    __NR_fallocate,
    __NR_ftruncate,
    __NR_fsync,
    __NR_fdatasync,
    __NR_flock,
    __NR_fcntl,
    __NR_dup,
    __NR_dup3,
    __NR_fstat,
    __NR_newfstatat,
    __NR_statx,
    __NR_statfs,
    __NR_fstatfs,
    __NR_getdents64,
    __NR_readlinkat,
    __NR_faccessat,
    __NR_faccessat2,
    __NR_mkdirat,
    __NR_unlinkat,
    __NR_renameat,
    __NR_renameat2,
    __NR_fchmod,
    __NR_fchmodat,
    __NR_umask,
    __NR_getcwd,
    // sockets (socket has a rule of its own)
    __NR_bind,
    __NR_listen,
    __NR_accept4,
    __NR_connect,
    __NR_shutdown,
    __NR_getsockname,
    __NR_getpeername,
    __NR_setsockopt,
    __NR_getsockopt,
    __NR_sendto,
    __NR_recvfrom,
    __NR_sendmsg,
    __NR_recvmsg,
    // who and where we are
    __NR_getpid,
    __NR_gettid,
    __NR_getuid,
    __NR_geteuid,
    __NR_getgid,
    __NR_getegid,
    __NR_getrusage,
    __NR_uname,
    __NR_sysinfo,
    __NR_getrandom,
#if defined(__x86_64__)  // older names, which newer machines do not have
    __NR_open,
    __NR_stat,
    __NR_lstat,
    __NR_access,
    __NR_poll,
    __NR_select,
    __NR_epoll_wait,
    __NR_readlink,
    __NR_mkdir,
    __NR_rmdir,
    __NR_unlink,
    __NR_rename,
    __NR_chmod,
    __NR_dup2,
    __NR_accept,
    __NR_time,
#endif
};

// The helper waits for a request, opens or binds, and answers. It has one thread and asks for no new memory
// but what an error message takes.
constexpr int helper_calls[] = {
    __NR_recvmsg,  __NR_sendmsg,    __NR_openat,     __NR_openat2,      __NR_close,
    __NR_fstat,    __NR_newfstatat, __NR_statx,      __NR_fcntl,        __NR_fchown,
    __NR_unlinkat, __NR_readlinkat, __NR_bind,       __NR_getsockopt,   __NR_brk,
    __NR_munmap,   __NR_exit,       __NR_exit_group, __NR_rt_sigreturn, __NR_rt_sigprocmask,
    __NR_getpid,   __NR_gettid,     __NR_futex,      __NR_madvise,      __NR_restart_syscall,
};

// What no part of us and no library calls.
constexpr int deadly_calls[] = {
    __NR_execve,
    __NR_execveat,
    __NR_ptrace,
    __NR_process_vm_readv,
    __NR_process_vm_writev,
    __NR_mount,
    __NR_umount2,
    __NR_move_mount,
    __NR_fsopen,
    __NR_open_tree,
    __NR_pivot_root,
    __NR_chroot,
    __NR_setns,
    __NR_unshare,
    __NR_init_module,
    __NR_finit_module,
    __NR_delete_module,
    __NR_kexec_load,
    __NR_reboot,
    __NR_bpf,
    __NR_perf_event_open,
    __NR_userfaultfd,
    __NR_keyctl,
    __NR_add_key,
    __NR_request_key,
    __NR_open_by_handle_at,
    __NR_swapon,
    __NR_swapoff,
    __NR_acct,
    __NR_settimeofday,
    __NR_clock_settime,
    __NR_io_uring_setup,
};

constexpr unsigned long device_requests[] = {
    BLKGETSIZE64,       BLKSSZGET,        BLKPBSZGET,           BLKSECTGET,           SG_IO,
    SG_GET_VERSION_NUM, SG_SET_COMMAND_Q, SG_SET_RESERVED_SIZE, SG_GET_RESERVED_SIZE, SG_SCSI_RESET, TCGETS,
};

// --- the program

class Program {
 public:
  Program() {
    load(offsetof(seccomp_data, arch));
    skip_unless(this_machine, 1);
    jump_over_next();
    give(SECCOMP_RET_KILL_PROCESS);
    load(offsetof(seccomp_data, nr));
    if (first_foreign_number != 0) {
      code_.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first_foreign_number, 0, 1));
      give(SECCOMP_RET_KILL_PROCESS);
    }
  }

  void each(std::span<const int> calls, std::uint32_t verdict) {
    for (const int call : calls) {
      skip_unless(static_cast<std::uint32_t>(call), 1);
      give(verdict);
    }
  }

  // Allowed where `argument & mask` (its lower half) is one of `values`, refused otherwise.
  void where(int call, unsigned argument, std::uint32_t mask, std::span<const std::uint32_t> values) {
    const auto length = 3 + 2 * values.size();
    skip_unless(static_cast<std::uint32_t>(call), static_cast<std::uint8_t>(length));
    load(argument_offset(argument));
    code_.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask));
    for (const std::uint32_t value : values) {
      skip_unless(value, 1);
      give(SECCOMP_RET_ALLOW);
    }
    give(refused);
  }
  void where(int call, unsigned argument, std::uint32_t mask, std::initializer_list<std::uint32_t> values) {
    where(call, argument, mask, std::span(values.begin(), values.size()));
  }

  // Allowed where the argument, a pointer, is null.
  void where_null(int call, unsigned argument) {
    skip_unless(static_cast<std::uint32_t>(call), 6);
    load(argument_offset(argument));
    skip_unless(0, 3);
    load(argument_offset(argument) + 4);
    skip_unless(0, 1);
    give(SECCOMP_RET_ALLOW);
    give(refused);
  }

  std::vector<sock_filter> finish() {
    give(refused);
    return std::move(code_);
  }

  static constexpr std::uint32_t refused = SECCOMP_RET_ERRNO | EPERM;

 private:
  static std::uint32_t argument_offset(unsigned argument) {
    return static_cast<std::uint32_t>(offsetof(seccomp_data, args) + argument * sizeof(std::uint64_t));
  }
  void load(std::size_t offset) {
    code_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset)));
  }
  void skip_unless(std::uint32_t value, std::uint8_t count) {
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count));
  }
  void jump_over_next() { code_.push_back(BPF_STMT(BPF_JMP | BPF_JA, 1)); }
  void give(std::uint32_t verdict) { code_.push_back(BPF_STMT(BPF_RET | BPF_K, verdict)); }

  std::vector<sock_filter> code_;
};

void rules_of_server(Program& program) {
  program.each(server_calls, SECCOMP_RET_ALLOW);
  // Memory never becomes code.
  program.where(__NR_mmap, 2, PROT_EXEC, {0});
  program.where(__NR_mprotect, 2, PROT_EXEC, {0});
  // Threads, no processes. The flags of clone3() lie in memory, which no filter sees: the C library falls
  // back to clone().
  program.where(__NR_clone, 0, CLONE_THREAD, {CLONE_THREAD});
  constexpr int clone3[] = {__NR_clone3};
  program.each(clone3, SECCOMP_RET_ERRNO | ENOSYS);
  program.where(__NR_socket, 0, ~0u,
                {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK});  // netlink: the host's addresses
  program.where(__NR_prctl, 0, ~0u, {PR_SET_NAME, PR_SET_VMA});
  program.where_null(__NR_prlimit64, 2);                                         // asks only
  program.where(__NR_tgkill, 0, ~0u, {static_cast<std::uint32_t>(::getpid())});  // abort()
  std::vector<std::uint32_t> requests;
  for (const unsigned long request : device_requests) requests.push_back(static_cast<std::uint32_t>(request));
  program.where(__NR_ioctl, 1, ~0u, requests);
}

void rules_of_helper(Program& program) {
  program.each(helper_calls, SECCOMP_RET_ALLOW);
  program.where(__NR_mmap, 2, PROT_EXEC, {0});
  program.where(__NR_mprotect, 2, PROT_EXEC, {0});
  program.where(__NR_tgkill, 0, ~0u, {static_cast<std::uint32_t>(::getpid())});
}

}  // namespace

std::vector<sock_filter> filter_program(Confined who) {
  Program program;
  program.each(deadly_calls, SECCOMP_RET_KILL_PROCESS);
  (who == Confined::server ? rules_of_server : rules_of_helper)(program);
  return program.finish();
}

Status filter_system_calls(Confined who) {
  if constexpr (PERILUNE_SANITIZED != 0)
    return fail(Errc::unsupported, "this program is built with a sanitizer");
  std::vector<sock_filter> code = filter_program(who);
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno(errno, "no_new_privs");
  const long result = ::syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
  if (result > 0) return fail(Errc::unsupported, "a thread has another filter of system calls already");
  if (result < 0) return fail(Errc::unsupported, "the kernel filters no system calls", errno);
  return {};
}

}  // namespace perilune::control::privilege
