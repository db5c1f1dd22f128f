"""What the tests of this folder share: a case that gets an engine or is skipped with a reason that is printed, and a main() that
says at its end which tests were skipped and why."""
import concurrent.futures
import contextlib
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "run"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "storage"))

import daemons

_own = contextlib.ExitStack()
_engines = {}


class Case(unittest.TestCase):
    maxDiff = None

    def skip(self, reason):
        raise unittest.SkipTest(reason)

    @contextlib.contextmanager
    def engine(self, kind):
        """The shared engine of a kind, with all images; of this process if `daemons.py start` has not run."""
        if kind not in _engines:
            try:
                _engines[kind] = _own.enter_context(daemons.shared(kind))
                _engines[kind].said = _engines[kind].describe()
            except (daemons.Missing, daemons.images.Missing) as missing:
                _engines[kind] = missing
        if isinstance(_engines[kind], Exception):
            self.skip(str(_engines[kind]))
        yield _engines[kind]

    def containers_of_story(self, engine):
        """Those of a test that is a Story as well: tests that run at the same time share an engine. All of them have a directory of
        the story as a mount."""
        return [one for one in engine.containers() if any(str(self.base) in mount.get("Source", "") for mount in one["Mounts"])]

    def own_engine(self, make):
        """An engine of this test alone, removed at its end; `make` as daemons.Docker."""
        try:
            engine = make().__enter__()
        except daemons.Missing as missing:
            self.skip(str(missing))
        self.addCleanup(engine.remove)
        return engine


def _each_by_itself():
    """All tests of the program at the same time, each in a process of its own, which ends with this one."""
    tests = [test.id().removeprefix("__main__.") for suite in unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]) for test in suite]

    def run(test):
        return subprocess.run(["setpriv", "--pdeathsig", "KILL", sys.executable, "-B", sys.argv[0], test], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with concurrent.futures.ThreadPoolExecutor(len(tests)) as pool:
        done = list(pool.map(run, tests))
    for test, one in zip(tests, done):
        print(f"{test}: exit code {one.returncode}\n{one.stdout}")
    sys.exit(any(one.returncode != 0 for one in done))


def main(at_once=False):
    """at_once: for tests that wait for minutes and have engines of their own."""
    if at_once and len(sys.argv) == 1:
        _each_by_itself()
    try:
        done = unittest.main(verbosity=1, exit=False).result
    finally:
        _own.close()
    # Skipped ones say why: what is said of the others is what they were tested with.
    for engine in _engines.values():
        if not isinstance(engine, Exception):
            print("tested with: " + engine.said)
    for test, reason in done.skipped:
        print(f"skipped: {test.id().split('.', 1)[1]}: {reason}")
    sys.exit(0 if done.wasSuccessful() else 1)
