"""The conformance suite of backends at other engines than the two that all tests share: those that do not see this machine's files, and
those of an ordinary user (label `full`: minutes). CONFORMANCE in the environment names the program; words after the name of this file say
which of the classes below."""
import os
import shutil
import subprocess

import daemons
import images
import services
import story


class Places(story.Story, services.Case):
    def conforms(self, make, *lines):
        engine = self.own_engine(make)
        image = engine.load(images.busybox())
        services_file = self.base / "services"
        services_file.write_text("".join(line + "\n" for line in (f"{engine.name}={engine.host}", f"image-busybox={image}", *lines)))
        program = shutil.copy(os.environ["CONFORMANCE"], self.base / "conformance_test")
        os.chmod(program, 0o755)
        name = engine.name.capitalize()
        done = subprocess.run([*story.as_nobody(self.unprivileged), program, f"--gtest_filter={name}/*", "--gtest_brief=1"], cwd="/", timeout=1500, capture_output=True, text=True,
                              env={"PATH": os.environ["PATH"], "HOME": str(self.home), "JOBC_SERVICES": str(services_file)})
        self.assertEqual(done.returncode, 0, (done.stdout + done.stderr)[-20000:])
        self.assertIn("PASSED", done.stdout)
        self.assertEqual(engine.containers(), [], "no container is left")
        return engine


class FarDocker(Places):
    def test_conformance(self):
        engine = self.conforms(lambda: daemons.Docker(far=True), "far=yes")
        self.assertEqual(engine.api("GET", "/volumes").json["Volumes"] or [], [], "no volume is left")


class FarPodman(Places):
    def test_conformance(self):
        engine = self.conforms(lambda: daemons.Podman(far=True), "far=yes")
        self.assertEqual(engine.api("GET", "/volumes").json["Volumes"] or [], [], "no volume is left")


class RootlessDocker(Places):
    unprivileged = True

    def test_conformance(self):
        self.conforms(daemons.RootlessDocker)


class RootlessPodman(Places):
    unprivileged = True

    def test_conformance(self):
        self.conforms(daemons.RootlessPodman)


if __name__ == "__main__":
    services.main()
