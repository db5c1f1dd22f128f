"""What `jobc doctor` says of each backend: there or not, which version, what it enforces, what is missing and how to get it."""
import http.server
import json
import os
import shutil
import socket
import threading
import time

import services
import story

BACKENDS = ["process", "docker", "podman", "apptainer", "ssh", "slurm", "sge", "flux", "cloud_run", "cloud_batch", "vertex"]


class Doctor(story.Story, services.Case):
    def backends(self, *words, **options):
        return {one["name"]: one for one in self.jobc("doctor", *words, "--json", **options).json["backends"]}

    def test_every_backend_has_its_lines(self):
        report = self.jobc("doctor", "--json").json
        self.assertEqual(report["schema"], "jobc.doctor/1")
        self.assertEqual([one["name"] for one in report["backends"]], BACKENDS)
        for one in report["backends"]:
            self.assertTrue(one["summary"], one)
            self.assertLessEqual(one["usable"], one["built"], one)
        text = self.jobc("doctor").out
        for name in BACKENDS[1:]:
            self.assertRegex(text, rf"(?m)^  (ok|--)  {name} ", name)

    def test_a_backend_that_cannot_be_used_is_exit_code_14(self):
        for name, one in self.backends().items():
            done = self.jobc("doctor", name, code=0 if one["usable"] else 14)
            if not one["usable"] and name != "process":
                self.assertIn("!!", done.out, name)
        self.assertSays(self.jobc("doctor", "kubernetes", code=2).err, "`kubernetes`", "process, docker, podman")

    def test_what_is_missing_and_how_to_get_it(self):
        empty = {"PATH": "/nonexistent", "GOOGLE_APPLICATION_CREDENTIALS": "/no/key.json"}
        for name, program, parts in [("slurm", "sbatch", ["`sbatch`", "slurm-client"]), ("sge", "qsub", ["`qsub`", "gridengine-client"]), ("flux", "flux", ["`flux`"]),
                                     ("apptainer", "apptainer", ["neither `apptainer` nor `singularity`", "https://apptainer.org"])]:
            if shutil.which(program) is None:
                self.assertSays(self.jobc("doctor", name, env=empty, code=14).out, *parts)
        self.assertSays(self.jobc("doctor", "cloud_run", env=empty, code=14).out, "`/no/key.json`, which cannot be read", "gcloud auth application-default login")

    def test_real_engines(self):
        for kind, variable in (("docker", "DOCKER_HOST"), ("podman", "CONTAINER_HOST")):
            with self.subTest(kind), self.engine(kind) as engine:
                version = engine.api("GET", "/version").json["Version"]
                one = self.backends(kind, env={variable: engine.host})[kind]
                self.assertTrue(one["usable"])
                self.assertEqual(one["version"], version)
                self.assertSays(one["summary"], version, engine.host)
                out = self.jobc("doctor", kind, env={variable: engine.host}).out
                self.assertSays(out, f"from `{variable}`", "memory limit", "cpu limit", "process limit")
                # The engine's own word for it.
                limited = engine.api("GET", "/info").json["MemoryLimit"]
                self.assertEqual("`oom` is detected" in out, limited)
                self.assertEqual("process limit" in one["summary"] or "memory, cpu, process" in one["summary"], limited)

    def test_nobody_listens(self):
        for kind, variable in (("docker", "DOCKER_HOST"), ("podman", "CONTAINER_HOST")):
            for host, said in (("unix:///no/such/socket", "no such file or directory"), ("tcp://127.0.0.1:9", "connection refused")):
                out = self.jobc("doctor", kind, env={variable: host}, code=14).out
                self.assertSays(out, host, said, f"`{variable}`")
                self.assertNotIn("\n\n\n", out)

    def test_no_permission_on_the_socket(self):
        if not story.ROOT:
            self.skip("another user is needed whose socket it is")
        self.unprivileged = True
        if self.program == story.JOBC:
            self.program = shutil.copy(story.JOBC, self.base / "jobc")
            os.chmod(self.program, 0o755)
        path = self.base / "s"
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(str(path))
        listener.listen()
        os.chmod(path, 0o600)
        self.assertSays(self.jobc("doctor", "docker", env={"DOCKER_HOST": f"unix://{path}"}, cwd="/", code=14).out, "permission denied", "usermod -aG docker")

    def serve(self, answers):
        """A server whose answers are given by path."""
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = answers.get(self.path.split("?")[0])
                if callable(body):
                    body = body()
                self.send_response(404 if body is None else 200)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_):
                pass
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"tcp://127.0.0.1:{server.server_address[1]}"

    def test_something_else_answers(self):
        self.assertSays(self.jobc("doctor", "docker", env={"DOCKER_HOST": self.serve({})}, code=14).out, "no container engine", "404")
        self.assertSays(self.jobc("doctor", "docker", env={"DOCKER_HOST": self.serve({"/version": b"<html>"})}, code=14).out, "no container engine")

    def test_an_engine_that_enforces_nothing_says_what_would(self):
        version = json.dumps({"Version": "5.0", "ApiVersion": "1.41"}).encode()
        for info, parts in [({"MemoryLimit": False, "CgroupVersion": "1", "SecurityOptions": ["name=rootless"]}, ["rootless", "not enforced", "limits = available", "systemd.unified_cgroup_hierarchy=1"]),
                            ({"MemoryLimit": False, "CgroupVersion": "2", "SecurityOptions": ["name=rootless"]}, ["rootless", "Delegate=cpu"]),
                            ({"MemoryLimit": False, "Driver": "vfs"}, ["cgroup_enable=memory", "copies its whole image"])]:
            host = self.serve({"/version": version, "/info": json.dumps(info).encode()})
            self.assertSays(self.jobc("doctor", "docker", env={"DOCKER_HOST": host}).out, *parts)
        host = self.serve({"/version": version, "/info": json.dumps({"MemoryLimit": True, "SecurityOptions": ["name=userns"]}).encode()})
        self.assertSays(self.jobc("doctor", "docker", env={"DOCKER_HOST": host}).out, "userns-remap", "belong to the caller")
        host = self.serve({"/version": version})
        self.assertSays(self.jobc("doctor", "docker", env={"DOCKER_HOST": host}).out, "does not say what it can")

    def test_a_program_that_hangs_when_asked_for_its_version_is_not_waited_for(self):
        tools = self.base / "bin"
        tools.mkdir()
        if shutil.which("flux"):
            self.skip("there is a real flux here")
        (tools / "flux").write_text("#!/bin/sh\nexec sleep 600\n")
        (tools / "flux").chmod(0o755)
        begin = time.monotonic()
        done = self.jobc("doctor", "flux", env={"PATH": f"{tools}:{os.environ['PATH']}"}, code=14)
        self.assertLess(time.monotonic() - begin, 20)
        self.assertIn(str(tools / "flux"), done.out)
        (tools / "flux").write_text("#!/bin/sh\necho 'flux-core-0.61.2 of today'\n")
        self.assertIn("0.61.2", self.jobc("doctor", "flux", env={"PATH": f"{tools}:{os.environ['PATH']}"}, code=14).out)


if __name__ == "__main__":
    services.main()
