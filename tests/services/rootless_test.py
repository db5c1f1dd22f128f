"""Engines whose root is not that of this machine: Podman's service and Docker's engine as an ordinary user with subordinate ids, and
Docker's engine with userns-remap. The same stories as with the others; whoever runs inside, outputs belong to the caller."""
import os
import pathlib
import unittest

import services
from containers_test import Common, Containers, IMAGE
from story import ROOT, NOBODY


class Rootless(Common):
    """The engine of an ordinary user, and jobc as the same user."""

    unprivileged = True
    limited = False  # whether this machine lets it have limits

    def test_limits_hold(self):
        if self.limited:
            return super().test_limits_hold()
        for text, options, what in (("resources { memory = 64MiB }", "", "`resources.memory`"), ("resources { cpu = 0.5 }", "", "`resources.cpu`"), ("", ", pids = 77", "the option `pids`")):
            done = self.job('job a { ' + text + ' run = ["touch", "/flags/ran"] }\n', backend=options, code=14)
            self.assertSays(done.err, f"{self.name} at unix://", what, "`a`", "rootless", "limits = available")
            self.assertFalse(self.flag("ran").exists())
        done = self.job('job a { resources { memory = 64MiB, cpu = 0.5 } run = ["touch", "/flags/ran"] }\n', backend=", pids = 77, limits = available")
        self.assertSays(done.err, "`resources.memory` is not enforced by " + self.name, "`resources.cpu` is not enforced", "the option `pids` is not enforced")
        self.assertTrue(self.flag("ran").exists())
        # A job that names none, as most do, is none the worse for it.
        self.assertNotIn("enforced", self.job('job a { run = ["true"] }\n').err)

    def test_an_image_with_a_user_can_write_and_the_files_are_ours(self):
        done = self.job('''
job a { script = <<~SH
    id -u; umask 077; mkdir ~{output.d}; echo x > ~{output.d}/f; echo "{\\"v\\": 1}" > $JOB_RESULT; touch $TMPDIR/t
  SH
  output { d: Dir = "d", v: Int } }
export { d: Dir = a.d }
''', image="localhost/jobc-test/user:1")
        self.assertEqual(self.logs("a").out, "0\n", "root inside is the user outside")
        found = os.stat(pathlib.Path(done.json["d"], "f"))
        self.assertEqual((found.st_uid, found.st_gid), (NOBODY, NOBODY))

    def test_doctor_says_what_it_cannot(self):
        out = self.jobc("doctor", self.name).out
        self.assertSays(out, self.at_engine.host, "rootless: root in a container is the user of the engine")
        if not self.limited:
            self.assertSays(out, "not enforced: it is rootless", "limits = available", "systemd.unified_cgroup_hierarchy=1")
            self.assertNotIn("oom", out)


@unittest.skipUnless(ROOT, "only root can give another user subordinate ids for the time of a test")
class RootlessPodman(Rootless, Containers):
    kind = "podman-rootless"

    def setUp(self):
        super().setUp()
        version = self.at_engine.api("GET", "/version").json["Components"][0]["Details"]["APIVersion"]
        host = self.at_engine.get(f"/v{version}/libpod/info").json["host"]
        self.assertTrue(host["security"]["rootless"], "that is what is tested")
        self.limited = host["cgroupVersion"] == "v2" and "memory" in host["cgroupControllers"]

    def test_the_option_user(self):
        for user, ids in (("4711:4712", "4711\n4712\n"), ("4711", "4711\n4711\n"), ("0", "0\n0\n")):
            done = self.job('job a { script = <<~SH\n    id -u; id -g; umask 077; echo x > ~{output.o}; touch $TMPDIR/t\n  SH\n  output { o: File = "o" } }\nexport { o: File = a.o }\n',
                            backend=f', user = "{user}"', image="localhost/jobc-test/user:1")
            self.assertEqual(self.logs("a").out, ids)
            found = os.stat(done.json["o"])
            self.assertEqual((found.st_uid, found.st_gid), (NOBODY, NOBODY), "outputs are of the caller all the same")
        done = self.job('job a { run = ["true"] }\n', backend=', user = "worker"', image="localhost/jobc-test/user:1", code=10)
        self.assertSays(done.err, "`worker`", "needs numbers")


@unittest.skipUnless(ROOT, "only root can give another user subordinate ids for the time of a test")
class RootlessDocker(Rootless, Containers):
    kind = "docker-rootless"

    def setUp(self):
        super().setUp()
        info = self.at_engine.api("GET", "/info").json
        self.assertIn("name=rootless", info["SecurityOptions"], "that is what is tested")
        self.limited = info["MemoryLimit"]

    def test_the_option_user(self):
        self.job('job a { script = <<~SH\n    id -u\n  SH\n}\n', backend=', user = "0"', image="localhost/jobc-test/user:1")
        self.assertEqual(self.logs("a").out, "0\n")
        done = self.job('job a { run = ["true"] }\n', backend=', user = "4711"', code=10)
        self.assertSays(done.err, "`4711`", "would not be yours", "rootless")


@unittest.skipUnless(ROOT, "only root can give another user subordinate ids for the time of a test")
class RemappedDocker(Common, Containers):
    """Root in a container is somebody else outside: jobc asks for containers without that, so that outputs belong to the caller."""

    kind = "docker-remapped"

    def setUp(self):
        super().setUp()
        self.assertIn("name=userns", self.at_engine.api("GET", "/info").json["SecurityOptions"], "that is what is tested")

    def test_outputs_belong_to_the_caller(self):
        for image in (IMAGE, "localhost/jobc-test/user:1"):
            done = self.job('job a { script = <<~SH\n    umask 077; echo x > ~{output.o}\n  SH\n  output { o: File = "o" } }\nexport { o: File = a.o }\n', image=image)
            found = os.stat(done.json["o"])
            self.assertEqual((found.st_uid, found.st_gid), (0, 0))


@unittest.skipUnless(ROOT, "root of this machine is needed, beside another user")
class RemappedDockerOfAUser(Containers):
    kind = "docker-remapped"
    unprivileged = True

    def test_outputs_belong_to_the_caller(self):
        os.chmod(self.at_engine.socket, 0o666)
        os.chmod(self.at_engine.base, 0o711)
        for image in (IMAGE, "localhost/jobc-test/user:1"):
            done = self.job('job a { script = <<~SH\n    umask 077; echo x > ~{output.o}\n  SH\n  output { o: File = "o" } }\nexport { o: File = a.o }\n', image=image)
            self.assertEqual(os.stat(done.json["o"]).st_uid, NOBODY)


if __name__ == "__main__":
    services.main()
