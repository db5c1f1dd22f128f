"""What goes wrong with containers, as a person meets it: each ends with its exit code, its kind of error, and a message that says what
happened and what to type."""
import glob
import signal
import socket
import threading

import daemons
import images
import registry
import services
import story

VARIABLE = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}


class Errors(story.Story, services.Case):
    def fails(self, engine, text, kind, *parts, image=images.PREFIX + "busybox:1", options="", address="a", code=10, env=None):
        """Runs it in a container of `engine`; the attempt fails with `kind`, and the message says the parts."""
        self.write(f'edition = 1\nprofile box default {{ backend = {engine.name} {{ network = "none" {options} }}, image = "{image}" }}\n{text}')
        done = self.jobc("run", "a.job", code=code, env={VARIABLE[engine.name]: engine.host, **(env or {})}, timeout=120)
        if kind is not None:
            attempts = self.jobc("status", "--json", "--instances").json["instances"]
            found = {one["address"]: one for one in attempts}[address]
            self.assertEqual(found["attempts"][-1]["kind"], kind, str(done))
        self.assertSays(done.err, *parts)
        self.assertNotIn("internal", done.err)
        self.assertEqual(self.containers_of_story(engine), [], "no container is left")
        return done

    def of_programs(self, kind):
        with self.engine(kind) as engine:
            self.fails(engine, 'job a { run = ["no-such-tool", "x"] }\n', "command", "`no-such-tool`", "was not found in the image", "busybox:1")
            self.fails(engine, 'job a { run = ["/etc/not-a-program"] }\n', "command", "/etc/not-a-program", image=images.PREFIX + "bare:1")
            # No shell in the image: the message is about the image, not about the script.
            self.fails(engine, "job a {\n script = <<~SH\n  echo hello\n SH\n}\n", "command", "`sh`", "bare:1", image=images.PREFIX + "bare:1")
            self.fails(engine, 'job a { run = ["sh", "-c", "echo oops > $JOB_RESULT"] output { n: Int } }\n', "schema", "a.job")
            self.fails(engine, 'job a { run = ["true"] output { f: File = "missing.txt" } }\n', "output_missing", "missing.txt")

    def test_programs_in_docker(self):
        self.of_programs("docker")

    def test_programs_in_podman(self):
        self.of_programs("podman")

    def of_images(self, kind):
        with self.engine(kind) as engine:
            self.fails(engine, 'job a { submit { max_attempts = 1 } run = ["true"] }\n', "image", "localhost/jobc-test/none:1", image=images.PREFIX + "none:1", options=', pull = never')
            nobody = "127.0.0.1:9/team/tool:1"
            self.assertIn(kind, self.fails(engine, 'job a { submit { max_attempts = 1 } run = ["true"] }\n', None, nobody, image=nobody).err)

    def test_images_of_docker(self):
        self.of_images("docker")

    def test_images_of_podman(self):
        self.of_images("podman")

    def test_a_layer_that_is_cut_off_or_not_what_its_digest_says(self):
        with registry.Registry() as store, self.engine("docker") as engine:
            store.push("team/cut", "1", images.unlike("cut off", 1 << 18), cut_after=20_000)
            self.fails(engine, 'job a { submit { max_attempts = 1 } run = ["true"] }\n', None, store.host + "/team/cut:1", image=store.host + "/team/cut:1")
            self.assertGreater(store.cuts, 0)
            store.push("team/bad", "1", images.unlike("bad layer", 1 << 12), wrong_layer=True)
            # Nothing but a person can mend it: neither another submission nor another attempt is made.
            bad = self.fails(engine, 'job a { retry { max_attempts = 3 } run = ["true"] }\n', "image", store.host + "/team/bad:1", "verification failed", image=store.host + "/team/bad:1")
            self.assertNotIn("submission 2", bad.err)
            self.assertEqual(len(self.instances()["a"]["attempts"]), 1)

    def test_graphics_processors_that_are_not_there(self):
        if glob.glob("/dev/nvidia*"):
            self.skip("this machine may have some")
        text = 'job a { submit { max_attempts = 1 } resources { gpu = 1 } run = ["true"] }\n'
        with self.engine("docker") as engine:
            self.assertNotIn("oversubscribe", self.fails(engine, text, None, "`a` needs 1 gpus, this machine has 0", "lower its `resources`", code=14).err)
            self.assertSays(self.jobc("doctor", "docker", env={"DOCKER_HOST": engine.host}).out, "no runtime `nvidia`", "nvidia-container-toolkit")
        with self.engine("podman") as engine:
            self.fails(engine, text, None, "`a` needs 1 gpus, this machine has 0", code=14)
            self.assertSays(self.jobc("doctor", "podman", env={"CONTAINER_HOST": engine.host}).out, "a job that asks for them fails", "use `docker`")

    def test_wrong_credentials(self):
        with registry.Registry("token") as store, self.engine("docker") as engine:
            store.push("team/tool", "1", images.busybox())
            config = self.home / ".docker"
            config.mkdir()
            (config / "config.json").write_text(store.docker_config(password="wrong"))
            self.fails(engine, 'job a { submit { max_attempts = 1 } run = ["true"] }\n', "auth", store.host, "docker login", image=store.host + "/team/tool:1")

    def test_a_full_disk_in_the_engine(self):
        docker = self.own_engine(lambda: daemons.Docker(disk=24 << 20))
        image = docker.load(images.busybox())
        # The program meets it: its own error, told by itself.
        done = self.fails(docker, 'job a { run = ["sh", "-c", "dd if=/dev/zero of=/big bs=1M count=64"] }\n', "exit", "No space left on device", image=image)
        self.assertIn("stderr", done.err)
        # The engine meets it: it cannot take the image.
        with registry.Registry() as store:
            store.push("team/large", "1", images.unlike("large", 40 << 20))
            self.fails(docker, 'job a { submit { max_attempts = 1 } run = ["true"] }\n', None, store.host + "/team/large:1", "no space left on device", image=store.host + "/team/large:1")

    def fake(self, answer):
        """A socket where `answer(connection)` is what takes each connection."""
        path = str(self.base / "fake.sock")
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen(16)
        self.addCleanup(server.close)
        self.addCleanup(server.shutdown, socket.SHUT_RDWR)

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()
        threading.Thread(target=serve, daemon=True).start()
        return "unix://" + path

    def answers(self, body):
        """Always with this."""
        def answer(connection):
            with connection:
                while connection.recv(65536):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return answer

    def refused(self, host, *parts, kind="docker"):
        self.write(f'edition = 1\nprofile box default {{ backend = {kind} {{ host = "{host}" }}, image = "x:1" }}\njob a {{ run = ["true"] }}\n')
        done = self.jobc("run", "a.job", code=14, timeout=100)
        self.assertSays(done.err, host, *parts)
        self.assertNotIn("internal", done.err)
        return done

    def test_an_engine_that_hangs(self):
        release = threading.Event()
        self.addCleanup(release.set)
        self.refused(self.fake(lambda connection: (release.wait(), connection.close())), "no answer in time", "journalctl -u docker")

    def test_an_engine_that_is_too_old(self):
        host = self.fake(self.answers(b'{"Version": "18.06.3-ce", "ApiVersion": "1.38", "MinAPIVersion": "1.12"}'))
        self.refused(host, "18.06.3-ce", "1.38", "at least 1.40")

    def test_what_is_no_engine(self):
        self.refused(self.fake(self.answers(b"<html>It works!</html>")), "no container engine")

    def test_an_engine_that_is_stopped_for_a_while(self):
        """As under a debugger, or on a machine that swaps: nobody answers, nothing is cut, and then all goes on."""
        docker = self.own_engine(daemons.Docker)
        image = docker.load(images.busybox())
        self.write(f'edition = 1\nprofile box default {{ backend = docker {{ network = "none" }}, image = "{image}" }}\njob a {{ for i in range(3) run = ["sh", "-c", "echo up; sleep 1; echo ~{{i}}"] output {{ o: String = stdout() }} }}\nexport {{ all: List<String> = a[*].o }}\n')
        process = self.start("run", "a.job", "--max-parallel", "1", env={"DOCKER_HOST": docker.host})
        story.wait_until(lambda: docker.containers(), 30, "a container")
        docker.process.send_signal(signal.SIGSTOP)
        try:
            story.wait_until(lambda: not docker.container_pids(), 20, "the program to end")
        finally:
            docker.process.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(process).json, {"all": [f"up\n{i}\n" for i in range(3)]})

    def test_no_engine(self):
        self.write('edition = 1\nprofile box default { backend = docker, image = "x:1" }\njob a { run = ["true"] }\n')
        done = self.jobc("run", "a.job", code=14, env={"DOCKER_HOST": "unix:///no/such/socket"})
        self.assertSays(done.err, "docker", "unix:///no/such/socket", "`DOCKER_HOST`", "jobc doctor")
        self.assertEqual(done.out, "")


if __name__ == "__main__":
    services.main()
