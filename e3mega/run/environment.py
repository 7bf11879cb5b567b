"""The environment of a job: an allow-list of the user's, with the job's own over it."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from e3mega.device import visible_devices

# A job must not depend on what else stands in the shell that started the run.
ALLOWED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TZ",
    "TMPDIR",
    "LANG",
    "LC_*",
    "XDG_*",
    "HF_*",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "SSL_CERT_*",
    "REQUESTS_CA_BUNDLE",
    "*_proxy",
    "*_PROXY",
    "*_HOME",
    "*_VISIBLE_DEVICES",
    "NVIDIA_*",
    "NCCL_*",
    "GLOO_SOCKET_IFNAME",
)


def job_environment(
    users: Mapping[str, str],
    jobs: Mapping[str, str],
    *,
    devices: Sequence[int] = (),
    passed: Sequence[str] = (),
) -> dict[str, str]:
    """The variables that a job is started with; the job's own win.

    ``devices`` are numbers of GPUs among those that the user's environment shows; ``passed`` names
    what is allowed besides.
    """
    kept = {
        name: value
        for name, value in users.items()
        if any(fnmatchcase(name, pattern) for pattern in (*ALLOWED, *passed))
    }
    # Logs are read while the job runs.
    return {**kept, "PYTHONUNBUFFERED": "1", **jobs, **visible_devices(users, devices)}
