"""Shut the network off for one command: by a network namespace where that is allowed, else by refused sockets.

The dry run starts this file as a script, in an environment where kagglekit is not installed: standard library alone.
`python -I sandbox.py HOW FOLDER COMMAND...`, where HOW is namespace, sockets or none, and FOLDER becomes read-only in a
namespace. The command takes the place of this process once it is proved that no connection leaves the machine.
"""

import errno
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

HOWS = ("namespace", "sockets", "none")
NOT_ISOLATED = 96  # exit code of this script
LOADED = "dry_run_offline"  # kaggle/offline.py, under the name that a fresh environment loads it by
ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))  # nobody's addresses: RFC 5737, RFC 3849
NEW_MOUNTS, NEW_USER, NEW_NETWORK = 0x20000, 0x10000000, 0x40000000  # CLONE_NEW... of <sched.h>
PRIVATE, RECURSIVE, BIND, REMOUNT, READ_ONLY = 1 << 18, 1 << 14, 1 << 12, 1 << 5, 1  # MS_... of <sys/mount.h>
KEPT = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC if sys.platform == "linux" else 0  # a mount must not lose these
READ_FLAGS, WRITE_FLAGS, UP = 0x8913, 0x8914, 0x41  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP | IFF_RUNNING
DIE_WITH_PARENT, KILLED = 1, 9  # PR_SET_PDEATHSIG


class NotIsolated(RuntimeError):
    """The network could not be shut off, or connections still leave the machine."""


def sandboxed(words: list, how: str, folder: Path, python: str | Path = sys.executable) -> list[str]:
    """The command that runs `words` behind this script. python: one of a fresh environment; how="sockets" needs that
    its `refuse` was on when it was made."""
    return [str(word) for word in (python, "-I", Path(__file__).resolve(), how, folder, *words)]


def why_no_namespace(folder: Path) -> str:
    """Empty where a namespace without a network, and with `folder` read-only, can be made; else why not. Takes 0.1 s.

    Containers and hardened systems refuse it (seccomp, AppArmor, user.max_user_namespaces=0), and only Linux has it.
    """
    if sys.platform != "linux":
        return f"{sys.platform} has no network namespaces"
    words = sandboxed([sys.executable, "-I", "-S", "-c", ""], "namespace", folder)
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""


def enter_namespace(folder: str) -> None:
    """Move this process to a network of its own that has only a loopback, with `folder` read-only.

    No rights are needed where user namespaces are allowed; user and files keep their owners. Raises NotIsolated.
    """
    import ctypes

    system = ctypes.CDLL(None, use_errno=True)
    user, group, before = os.geteuid(), os.getegid(), os.stat("/proc/self/ns/net").st_ino

    def call(name: str, *arguments) -> None:
        if getattr(system, name)(*arguments) != 0:
            raise NotIsolated(f"{name} is refused: {os.strerror(ctypes.get_errno())}")

    try:
        if user != 0 or system.unshare(NEW_NETWORK | NEW_MOUNTS) != 0:  # root of a container may mostly not do this
            call("unshare", NEW_USER | NEW_NETWORK | NEW_MOUNTS)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        place, flags = (
            os.fsencode(folder),
            ctypes.c_ulong(os.statvfs(folder).f_flag & KEPT | REMOUNT | BIND | READ_ONLY),
        )
        call("mount", b"none", b"/", None, ctypes.c_ulong(PRIVATE | RECURSIVE), None)
        call("mount", place, place, None, ctypes.c_ulong(BIND), None)
        call("mount", b"none", place, None, flags, None)
        raise_loopback()
    except OSError as error:
        raise NotIsolated(f"the namespace is refused: {error}") from error
    if os.stat("/proc/self/ns/net").st_ino == before:
        raise NotIsolated("the network is still that of the machine")


def raise_loopback() -> None:
    """Bring up `lo`, which is down in a new network namespace: Jupyter's kernels talk over it."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, READ_FLAGS, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack("16sh22x", request)[1]
        fcntl.ioctl(any_socket, WRITE_FLAGS, struct.pack("16sh22x", b"lo", flags | UP))


def prove_offline() -> None:
    """Raise NotIsolated unless connections elsewhere are unreachable at once, while one to the loopback works."""
    for family, host in ELSEWHERE:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as outside:
                outside.settimeout(3)
                outside.connect((host, 80))
        except OSError as error:
            if error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue
            raise NotIsolated(f"a connection to {host} was tried, not refused ({error}): the network is on") from None
        raise NotIsolated(f"a connection to {host} was made: the network is on")
    with socket.create_server(("127.0.0.1", 0)) as server:
        try:
            socket.create_connection(server.getsockname(), timeout=3).close()
        except OSError as error:
            raise NotIsolated(f"the loopback does not work ({error}), and a notebook needs it") from error


def die_with_parent() -> None:
    """Let the system kill this process when the dry run that started it is killed (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, KILLED, 0, 0, 0)


def main(how: str, folder: str, *words: str) -> None:
    """Isolate, prove it, become the command. Exit code 96 with the reason on stderr when that does not work."""
    try:
        if how not in HOWS:
            raise NotIsolated(f"{how!r} is none of {', '.join(HOWS)}")
        if how == "namespace":
            enter_namespace(folder)
        if how == "sockets" and LOADED not in sys.modules:
            raise NotIsolated("this environment does not refuse sockets: it was made with refuse=False")
        if how != "none":
            prove_offline()
    except NotIsolated as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_ISOLATED)
    die_with_parent()
    os.execvp(words[0], words)


if __name__ == "__main__":
    main(*sys.argv[1:])
