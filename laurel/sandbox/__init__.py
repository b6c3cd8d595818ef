"""The sandbox: programs that a model wrote run in confined processes of the Linux kernel, or not at all."""

from laurel.sandbox.confinement import Bounds
from laurel.sandbox.outside import Ended, Finish, require
from laurel.sandbox.programs import BrokenTests, Returned, Verdict, call, judge, run

__all__ = [
    "Bounds",
    "BrokenTests",
    "Ended",
    "Finish",
    "Returned",
    "Verdict",
    "call",
    "judge",
    "require",
    "run",
]
