"""The engines of the tests' own are what the other tests take them for: they run containers, may be killed and come back, and
leave nothing on this machine, however they or the tests end."""
import os
import pathlib
import subprocess
import sys

import daemons
import images
import services
from world import wait_until


class Engines(services.Case):
    def run_container(self, engine, image, *command, **more):
        made = engine.api("POST", "/containers/create", {"Image": image, "Cmd": list(command), "Labels": {"jobc.run": "r"}, "HostConfig": {"NetworkMode": "none"}, **more})
        self.assertEqual(made.status, 201, made.body)
        container = made.json["Id"]
        self.assertEqual(engine.api("POST", f"/containers/{container}/start").status, 204)
        return container

    def wait(self, engine, container):
        return engine.api("POST", f"/containers/{container}/wait").json["StatusCode"]

    def each_runs_its_images(self, kind):
        with self.engine(kind) as engine:
            for image, command, code in (("busybox", ("sh", "-c", "exit 7"), 7), ("user", ("sh", "-c", "exit $(( $(id -u) - 1200 ))"), 34), ("entrypoint", ("sh", "-c", "exit 5"), 5),
                                         ("debian", ("python3", "-c", "import json, ssl; raise SystemExit(9)"), 9), ("debian", ("bash", "-c", "sort < /dev/null | awk '{}' && exit 8"), 8)):
                container = self.run_container(engine, images.PREFIX + image + ":1", *command)
                self.assertEqual(self.wait(engine, container), code, image)
                self.assertIn(engine.api("DELETE", f"/containers/{container}?force=1").status, (200, 204))

    def test_docker_runs_its_images(self):
        self.each_runs_its_images("docker")

    def test_podman_runs_its_images(self):
        self.each_runs_its_images("podman")

    def test_a_docker_that_was_killed_comes_back_and_has_stopped_its_containers(self):
        docker = self.own_engine(daemons.Docker)
        image = docker.load(images.busybox())
        container = self.run_container(docker, image, "sleep", "3600")
        docker.kill()
        self.assertTrue(docker.container_pids(), "they go on without their daemon")
        docker.restart()
        self.assertEqual(docker.api("GET", f"/containers/{container}/json").json["State"]["Status"], "exited")
        docker.remove()
        self.assertEqual(daemons.leftovers(docker.base), [])

    def test_with_live_restore_they_go_on(self):
        docker = self.own_engine(lambda: daemons.Docker(live_restore=True))
        image = docker.load(images.busybox())
        container = self.run_container(docker, image, "sleep", "3600")
        docker.kill()
        docker.restart()
        self.assertEqual(docker.api("GET", f"/containers/{container}/json").json["State"]["Status"], "running")
        docker.kill()
        docker.remove()
        self.assertEqual(daemons.leftovers(docker.base), [])

    def test_a_small_disk_is_full_soon(self):
        docker = self.own_engine(lambda: daemons.Docker(disk=32 << 20))
        image = docker.load(images.busybox())
        container = self.run_container(docker, image, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=64")
        self.assertNotEqual(self.wait(docker, container), 0)

    def leaves_nothing_when_its_test_is_killed(self, make):
        script = f"import daemons, images, time; e = daemons.{make}().__enter__(); i = e.load(images.busybox()); " \
                 "c = e.api('POST', '/containers/create', {'Image': i, 'Cmd': ['sleep', '3600'], 'HostConfig': {'NetworkMode': 'none'}}).json['Id']; " \
                 "assert e.api('POST', f'/containers/{c}/start').status == 204; print(e.base, flush=True); time.sleep(3600)"
        child = subprocess.Popen([sys.executable, "-B", "-c", script], cwd=pathlib.Path(__file__).parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        base = child.stdout.readline().strip()
        if not base:
            error = child.communicate()[1]
            if "daemons.Missing" in error:
                self.skip(error.strip().splitlines()[-1])
            self.fail(error)
        self.assertGreaterEqual(len(daemons.processes_of(base)), 2)
        child.kill()
        child.communicate()
        wait_until(lambda: not os.path.lexists(base), 30, "the engine of a killed test to be swept away")
        self.assertEqual(daemons.leftovers(base), [])

    def test_a_docker_whose_test_is_killed_is_swept_away(self):
        self.leaves_nothing_when_its_test_is_killed("Docker")

    def test_a_podman_whose_test_is_killed_is_swept_away(self):
        self.leaves_nothing_when_its_test_is_killed("Podman")

    def test_a_rootless_podman_whose_test_is_killed_is_swept_away(self):
        self.leaves_nothing_when_its_test_is_killed("RootlessPodman")


if __name__ == "__main__":
    services.main()
