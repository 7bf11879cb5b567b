"""The environment of a job: an allow-list of the user's, with the job's own over it."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

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
)


def job_environment(users: Mapping[str, str], jobs: Mapping[str, str]) -> dict[str, str]:
    """The variables that a job is started with; the job's own win."""
    kept = {
        name: value
        for name, value in users.items()
        if any(fnmatchcase(name, pattern) for pattern in ALLOWED)
    }
    # Logs are read while the job runs.
    return {**kept, "PYTHONUNBUFFERED": "1", **jobs}
