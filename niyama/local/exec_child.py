"""Become another program that dies with its parent.

Run by path, as root or not: `python -I -S exec_child.py PARENT_PID USER PROGRAM ARGUMENT...`
(an empty USER keeps the current one). The kernel kills the program when the *thread* that
started this one ends, so start it from a thread that lives as long as the child should.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1


def _become(user: str) -> None:
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.environ["HOME"] = account.pw_dir


def _die_with(parent_pid: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    # After the change of user, which clears the request.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:
        sys.exit("the parent ended before this process started")


def main(parent_pid: str, user: str, *program: str) -> None:
    """Never returns: ends as `program`, or with status 127 and a message."""
    if user:
        _become(user)
    _die_with(int(parent_pid))
    try:
        os.execvp(program[0], program)
    except OSError as error:
        print(f"cannot run {program[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        sys.exit(127)


if __name__ == "__main__":
    main(*sys.argv[1:])
