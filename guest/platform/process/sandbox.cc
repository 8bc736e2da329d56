#include "guest/platform/process/sandbox.h"

#include <initializer_list>

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stddef.h>

#include "guest/platform/process/syscalls.h"

namespace synfluid::guest::process {
namespace {

constexpr int kNobody = 65534;
constexpr int kDetach = 2;  // MNT_DETACH
constexpr int kLastCapability = 63;

SandboxError result(ZygoteStage stage, int64_t value) {
  return value < 0 ? SandboxError{stage, static_cast<int>(-value)} : SandboxError{};
}

/// Any directory that exists will do to mount the new root on; it is out of sight a moment later.
int64_t mount_empty() {
  int64_t error = -ENOENT;
  for (const char* place : {"/tmp", "/proc", "/dev", "/sys", "/usr"}) {
    error = system_call(__NR_mount, "none", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                        "size=4k,nr_inodes=2,mode=0555");
    if (error == 0) return system_call(__NR_chdir, place);
  }
  return error;
}

void limit(int resource, uint64_t value) {
  const rlimit64 limits{value, value};
  system_call(__NR_prlimit64, 0, resource, &limits, nullptr);
}

// Descriptors are 32 bits wide to the kernel, so the low word of the argument is the whole truth. x32 calls
// have a bit in their number that none of these has. The guest has no signal handlers, so no rt_sigreturn
// either.
constexpr sock_filter kFilter[] = {
    /* 0 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
    /* 1 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 7),
    /* 2 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
    /* 3 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_read, 6, 0),
    /* 4 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_write, 7, 0),
    /* 5 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_ppoll, 9, 0),
    /* 6 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clock_gettime, 8, 0),
    /* 7 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_exit_group, 7, 0),
    /* 8 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_restart_syscall, 6, 0),  // ppoll after SIGSTOP, SIGCONT
    /* 9 */ BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    // read: descriptor 0 only
    /* 10 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
    /* 11 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 2),
    // write: descriptor 1 only
    /* 12 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
    /* 13 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0),
    /* 14 */ BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    /* 15 */ BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

int64_t clear_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[2] = {};
  return system_call(__NR_capset, &header, &none[0]);
}

}  // namespace

SandboxError enter_empty_root() {
  // Nothing that happens here may travel back to where the mounts came from.
  int64_t done = system_call(__NR_mount, "none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  if (done == 0) done = mount_empty();
  if (done == 0) done = system_call(__NR_pivot_root, ".", ".");
  // An initramfs cannot be pivoted away from; moving over it and changing root hides it as well.
  if (done == -EINVAL) {
    done = system_call(__NR_mount, ".", "/", nullptr, MS_MOVE, nullptr);
    if (done == 0) done = system_call(__NR_chroot, ".");
  } else if (done == 0) {
    done = system_call(__NR_umount2, ".", kDetach);
  }
  if (done == 0) done = system_call(__NR_chdir, "/");
  if (done == 0)
    done = system_call(__NR_mount, "none", "/", nullptr, MS_REMOUNT | MS_RDONLY | MS_BIND, nullptr);
  return result(ZygoteStage::kRoot, done);
}

SandboxError become_nobody() {
  if (system_call(__NR_geteuid) != 0) return {};
  int64_t done = system_call(__NR_setgroups, 0, nullptr);
  if (done == 0) done = system_call(__NR_setresgid, kNobody, kNobody, kNobody);
  if (done == 0) done = system_call(__NR_setresuid, kNobody, kNobody, kNobody);
  return result(ZygoteStage::kDropRoot, done);
}

SandboxError drop_privileges(UserNamespace kind) {
  for (int capability = 0; capability <= kLastCapability; ++capability)
    system_call(__NR_prctl, PR_CAPBSET_DROP, capability, 0, 0, 0);
  system_call(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  system_call(__NR_prctl, PR_SET_SECUREBITS,
              SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                  SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
              0, 0, 0);
  if (kind == UserNamespace::kKept)
    if (const SandboxError error = become_nobody(); error.failed()) return error;
  int64_t done = clear_capabilities();
  if (done == 0) done = system_call(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (done == 0) done = system_call(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
  return result(ZygoteStage::kPrivileges, done);
}

bool seal_guest(uint64_t address_space_bytes) {
  limit(RLIMIT_NOFILE, 2);
  limit(RLIMIT_NPROC, 0);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_MEMLOCK, 0);
  limit(RLIMIT_AS, address_space_bytes);
  const sock_fprog program{static_cast<uint16_t>(sizeof(kFilter) / sizeof(kFilter[0])),
                           const_cast<sock_filter*>(kFilter)};
  return system_call(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

}  // namespace synfluid::guest::process
