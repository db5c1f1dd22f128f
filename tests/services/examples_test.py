"""The project's examples in containers: the same typed results as on this machine, with docker and with podman, and also when the
engine is killed in the middle of a run."""
import json
import pathlib
import shutil
import sys

import daemons
import images
import services
import story
from world import wait_until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "examples"))
from examples_test import EXAMPLES, ROOT, portable  # noqa: E402

IMAGE = images.PREFIX + "debian:1"
VARIABLE = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}


class InContainers(story.Story, services.Case):
    def example(self, name, file, kind):
        """A copy whose jobs run in containers, and nothing else is changed."""
        where = self.base / name
        shutil.copytree(ROOT / "examples" / name, where, ignore=shutil.ignore_patterns(".jobc", "results", "__pycache__"))
        source = where / file
        source.write_text(source.read_text() + f'\nprofile box {{ backend = {kind} {{ network = "none", max_parallel = 2 }}, image = "{IMAGE}" }}\n')
        return where

    def expect(self, name, where):
        result = portable(self.jobc("result", "--json", cwd=where).json)
        self.assertEqual(result, json.loads((ROOT / "examples" / name / "expected.json").read_text()))

    def all_of_them(self, kind):
        with self.engine(kind) as engine:
            for name, file, params in EXAMPLES:
                with self.subTest(name):
                    where = self.example(name, file, kind)
                    self.jobc("run", file, "--profile", "box", *params, cwd=where, env={VARIABLE[kind]: engine.host}, timeout=120)
                    self.expect(name, where)
                    # Not by accident on this machine: every attempt was a container.
                    log = self.jobc("status", "--json", "--instances", cwd=where).json
                    self.assertTrue(log["instances"])
            self.assertEqual(self.containers_of_story(engine), [], "no container is left")

    def test_docker(self):
        self.all_of_them("docker")

    def test_podman(self):
        self.all_of_them("podman")

    def killed(self, make, kind, keeps_running):
        """The engine is killed when an example has begun, and started again; the run ends as if nothing had been."""
        engine = self.own_engine(make)
        engine.load(images.debian())
        where = self.example("log_analysis", "log_analysis.job", kind)
        # One of its jobs waits for the test, so that it is running when the engine dies.
        source = where / "log_analysis.job"
        source.write_text(source.read_text().replace("    requests=0 errors=0 slowest=0\n", "    requests=0 errors=0 slowest=0; sleep 2\n", 1)
                          .replace("job analyse {\n", "job analyse {\n  retry { max_attempts = 4, backoff = constant(100ms), on = [node_lost, network] }\n", 1))
        run = self.start("run", "log_analysis.job", "--profile", "box", cwd=where, env={VARIABLE[kind]: engine.host})
        # Both of those that may run at a time: one that is just being started when the engine dies is lost in any case.
        wait_until(lambda: sum("analyse" in one["Labels"].get("jobc.instance", "") and one["State"] == "running" for one in engine.containers()) == 2, 60, "two attempts to run")
        engine.kill()
        engine.restart()
        self.finish(run, "run", timeout=120)
        self.expect("log_analysis", where)
        attempts = [len(one["attempts"]) for one in self.jobc("status", "--json", "--instances", cwd=where).json["instances"] if one["address"].startswith("analyse")]
        if keeps_running:
            self.assertEqual(set(attempts), {1}, "they went on")
        else:
            self.assertGreater(max(attempts), 1, "what the engine had ended was tried again")
        self.assertEqual(engine.containers(), [], "no container is left")

    def test_docker_is_killed_and_its_containers_end_with_it(self):
        self.killed(daemons.Docker, "docker", False)

    def test_docker_is_killed_and_its_containers_go_on(self):
        self.killed(lambda: daemons.Docker(live_restore=True), "docker", True)

    def test_podman_is_killed_and_its_containers_go_on(self):
        self.killed(daemons.Podman, "podman", True)


if __name__ == "__main__":
    services.main()
