"""Taking every right from the calling process but computing, and talking over descriptors that are already open.

Three layers, of which each would do for most attacks: resource limits (getrlimit(2)), an unprivileged user where
the process is root, and a seccomp filter that allows only the system calls of a pure computation (seccomp(2)).
libseccomp's Python bindings need a system library that slim images lack; the filter is a list of numbers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Sequence
from pathlib import Path

PACKAGES = Path(__file__).parents[3]
NOBODY = 65534

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER_OFFSET, ARCHITECTURE_OFFSET = 0, 4

CALLS = (
    "read write close fstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn "
    "sched_yield mremap madvise nanosleep getpid sendto recvfrom sendmsg recvmsg exit gettimeofday getrusage "
    "sigaltstack gettid restart_syscall futex clock_gettime clock_nanosleep exit_group set_robust_list getrandom "
    "membarrier rseq"
)
"""What a decoder may call; ``ppoll`` stands for ``poll`` on 64-bit ARM."""

NUMBERS = {
    "x86_64": "0 1 3 5 7 8 9 10 11 12 13 14 15 24 25 28 35 39 44 45 46 47 60 96 98 131 186 219 202 228 230 231 "
    "273 318 324 334",
    "aarch64": "63 64 57 80 73 62 222 226 215 214 134 135 139 124 216 233 101 172 206 207 211 212 93 169 165 132 "
    "178 128 98 113 115 94 99 278 283 293",
}
"""Their numbers, in the same order."""

AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def environment() -> dict[str, str]:
    """What the interpreter of a process to be confined needs to find our packages, and nothing of our own."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "PYTHONPATH": str(PACKAGES), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def enter(*, memory_bytes: int, cpu_seconds: int) -> None:
    """Give up everything, for good. ``memory_bytes`` is what may be allocated beyond what the process has now.

    Raises OSError where the kernel refuses a layer: a decoder without its sandbox must not run.
    """
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, used + memory_bytes)
    # the kernel sends SIGXCPU at the soft limit, which ends the process and tells the cause by its status
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    _limit(resource.RLIMIT_CORE, 0)
    # no descriptor can be opened any more, neither a file nor a socket
    _limit(resource.RLIMIT_NOFILE, 0)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    _filter_system_calls()


def _limit(which: int, value: int) -> None:
    resource.setrlimit(which, (value, value))


def _filter_system_calls() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    machine = platform.machine()
    if machine not in NUMBERS:
        return  # the other layers hold on any processor
    program = _program(AUDIT_ARCHITECTURES[machine], [int(number) for number in NUMBERS[machine].split()])
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def _program(architecture: int, numbers: Sequence[int]) -> bytes:
    """Classic BPF: kill on another architecture's calls, allow the numbers, answer EPERM to all others."""
    steps = [
        (LOAD_WORD, 0, 0, ARCHITECTURE_OFFSET),
        (JUMP_IF_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, RET_KILL_PROCESS),
        (LOAD_WORD, 0, 0, NUMBER_OFFSET),
        *((JUMP_IF_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)),
        (RETURN, 0, 0, RET_ERRNO | errno.EPERM),
        (RETURN, 0, 0, RET_ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
