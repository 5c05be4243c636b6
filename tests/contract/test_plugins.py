"""The contract tests that ship in the package, run on the package's own plug-ins."""

from laconic.contract.test_backends import *  # noqa: F403
from laconic.contract.test_methods import *  # noqa: F403
from laconic.contract.test_tasks import *  # noqa: F403
