"""In continuous integration a skipped test is a failure: whatever it lacks can be installed.

Loaded with `-p tests.plugins.no_skips`.
"""

from __future__ import annotations

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which a test was skipped; the summary (`-ra`) names it and its reason."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line("a test was skipped; here that is a failure", red=True)
