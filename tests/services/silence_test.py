"""Engines that hang for minutes and close nothing (label `full`: with the times that users have; tests/backends/docker/silence_test.cpp
has shorter ones): people are told, and what ran all the while is not lost."""
import selectors
import signal
import time

import daemons
import images
import registry
import services
import story

VARIABLE = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}


class Silence(story.Story, services.Case):
    def begin(self, engine):
        image = engine.load(images.busybox())
        self.write(f'''edition = 1
profile box default {{ backend = {engine.name} {{ network = "none", mounts = {{ flags = {{ source = "{self.flags}", target = "/flags", read_only = false }} }} }}, image = "{image}" }}
job a {{ for i in range(2) script = <<~SH
    echo up; touch /flags/up~{{i}}; until [ -e /flags/go ]; do sleep 0.05; done; echo ~{{i}}; touch /flags/ended~{{i}}
  SH
  output {{ o: String = stdout() }} }}
export {{ all: List<String> = a[*].o }}
''')
        process = self.start("run", "a.job", "--max-parallel", "2", env={VARIABLE[engine.name]: engine.host})
        for i in range(2):
            self.wait_for(f"up{i}", 60)
        # A program can run before its engine has said so: one that hangs in that moment is another story.
        story.wait_until(lambda: all("started_ms" in attempt for one in self.instances().values() for attempt in one["attempts"]), 20, "the attempts to have started")
        return process

    def until_said(self, process, text, seconds):
        """What it has said on stderr until then."""
        said, end = b"", time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(process.stderr, selectors.EVENT_READ)
            while text.encode() not in said:
                left = end - time.monotonic()
                if left <= 0 or not selector.select(left):
                    self.fail(f"waited {seconds} s in vain for `{text}`, got: {said.decode()}")
                piece = process.stderr.read1()
                self.assertTrue(piece, f"it ended: {said.decode()}")
                said += piece
        return said.decode()

    def check(self, process, engine):
        done = self.finish(process, timeout=120)
        self.assertEqual(done.json, {"all": [f"up\n{i}\n" for i in range(2)]})
        self.assertEqual(engine.containers(), [], "no container is left")
        return done

    def end_programs(self):
        self.flag("go").touch()
        for i in range(2):
            self.wait_for(f"ended{i}")

    def goes_on(self, engine):
        process = self.begin(engine)
        engine.process.send_signal(signal.SIGSTOP)
        try:
            said = self.until_said(process, "has not answered", 120)
            self.assertSays(said, engine.host, "jobc waits")
            self.end_programs()
        finally:
            engine.process.send_signal(signal.SIGCONT)
        self.check(process, engine)

    def test_podman_is_stopped_and_goes_on(self):
        self.goes_on(self.own_engine(daemons.Podman))

    def test_docker_is_stopped_and_goes_on(self):
        self.goes_on(self.own_engine(daemons.Docker))

    def test_docker_hangs_and_is_started_again(self):
        docker = self.own_engine(lambda: daemons.Docker(live_restore=True))
        process = self.begin(docker)
        docker.process.send_signal(signal.SIGSTOP)
        try:
            self.until_said(process, "has not answered", 120)
            # Long enough for new connections and for more than the minute that an engine has that is gone.
            time.sleep(280)
            self.assertIsNone(process.poll())
        finally:
            docker.kill()
        docker.restart()
        said = self.until_said(process, "answers again", 60)
        self.assertNotIn("node_lost", said)
        self.end_programs()
        self.check(process, docker)

    def pulls_again(self, engine, store):
        """The first answer never comes, and no limit of the job says how long that is waited for."""
        store.push("team/tool", "1", images.busybox())
        store.fail("manifests", 0, times=1)
        self.write(f'edition = 1\nprofile box default {{ backend = {engine.name} {{ network = "none" }}, image = "{store.host}/team/tool:1" }}\njob a {{ run = ["true"] }}\n')
        process = self.start("run", "a.job", env={VARIABLE[engine.name]: engine.host})
        done = self.finish(process, timeout=400)
        self.assertSays(done.err, "nothing more of it has come for 300 s", "submission 2", "pulled the image")
        self.assertNotIn("has not answered", done.err)

    def test_a_registry_that_hangs_for_docker(self):
        with registry.Registry() as store:
            self.pulls_again(self.own_engine(daemons.Docker), store)

    def test_a_registry_that_hangs_for_podman(self):
        with registry.Registry() as store:
            self.pulls_again(self.own_engine(lambda: daemons.Podman(registries=[store.port])), store)

    def test_cancelled_while_it_hangs(self):
        docker = self.own_engine(daemons.Docker)
        process = self.begin(docker)
        docker.process.send_signal(signal.SIGSTOP)
        try:
            self.until_said(process, "has not answered", 120)
            process.send_signal(signal.SIGINT)
            done = self.finish(process, code=130, timeout=150)
            self.assertSays(done.err, "jobc gc")
        finally:
            docker.process.send_signal(signal.SIGCONT)
        self.assertEqual(len(docker.containers()), 2)
        self.jobc("gc", "--older-than", "0s", env={"DOCKER_HOST": docker.host})
        self.assertEqual(docker.containers(), [])


if __name__ == "__main__":
    services.main(at_once=True)
