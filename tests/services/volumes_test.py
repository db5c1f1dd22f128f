"""Volumes of an engine as mounts: they have to be there unless a mount asks for them, and stay."""
import os

import images
import services
from story import Story

IMAGE = images.PREFIX + "busybox:1"


class Volumes:
    kind = ""

    def setUp(self):
        super().setUp()
        self.at_engine = self.enterContext(self.engine(self.kind))
        self.volume = f"jobc-test-{self.base.name[-8:]}"
        self.addCleanup(self.at_engine.api, "DELETE", f"/volumes/{self.volume}?force=1")

    def environment(self, **more):
        name = "CONTAINER_HOST" if self.kind == "podman" else "DOCKER_HOST"
        return super().environment(**{name: self.at_engine.host, **more})

    def job(self, mount, script, code=0):
        return self.run_job(f'''profile box default {{ backend = {self.kind} {{ network = "none", mounts = {{ data = {{ volume = "{self.volume}", {mount} }} }} }} }}
defaults {{ image = "{IMAGE}" }}
job a {{ script = <<~SH
    {script}
  SH
  output {{ said: String = trim(stdout()) }} }}
export {{ said: String = a.said }}
''', code=code)

    def there(self):
        """What the engine has of it; None: nothing."""
        answer = self.at_engine.api("GET", f"/volumes/{self.volume}")
        return answer.json if answer.status == 200 else None

    def test_one_that_is_not_there_is_not_made_by_mistake(self):
        done = self.job("read_only = false", "echo never", code=10)
        self.assertSays(done.err, "`data`", f"the volume `{self.volume}`", f"{self.kind} volume create {self.volume}", "create = true")
        self.assertEqual(self.instances()["a"]["kind"], "staging", str(done))
        self.assertIsNone(self.there())

    def test_one_that_is_asked_for_is_made_and_stays(self):
        self.job("create = true, read_only = false", 'echo kept > $JOB_MOUNT_data/f; echo "$JOB_MOUNT_data"')
        labels = self.there()["Labels"]
        self.assertIn(labels["jobc.run"], os.listdir(self.at / ".jobc" / "runs"))
        # Another run has what the first one left, and nothing of jobc's removes it.
        self.assertEqual(self.job('create = true, target = "/elsewhere"', "cat /elsewhere/f").json, {"said": "kept"})
        self.assertEqual(self.there()["Labels"], labels)
        self.jobc("gc", "--older-than", "0s")
        self.assertIsNotNone(self.there())
        self.assertEqual(self.job('target = "/again"', "cat /again/f").json, {"said": "kept"})

    def test_read_only_unless_it_says_otherwise(self):
        self.at_engine.api("POST", "/volumes/create", {"Name": self.volume})
        self.assertEqual(self.job("", "touch $JOB_MOUNT_data/f 2>&1 && echo written || echo refused").json["said"].splitlines()[-1], "refused")
        self.assertEqual(self.job("read_only = false", "touch $JOB_MOUNT_data/f 2>&1 && echo written").json, {"said": "written"})

    def test_many_at_once_share_one_that_is_made(self):
        done = self.run_job(f'''profile box default {{ backend = {self.kind} {{ network = "none", mounts = {{ data = {{ volume = "{self.volume}", create = true, read_only = false }} }} }} }}
defaults {{ image = "{IMAGE}" }}
job a {{ for i in range(6) run = ["sh", "-c", "touch /mnt/data/~{{i}}"] }}
job b {{ after = [a] run = ["ls", "/mnt/data"] output {{ said: String = trim(stdout()) }} }}
export {{ said: String = b.said }}
''', "--max-parallel", "6")
        self.assertEqual(done.json["said"].split(), [str(i) for i in range(6)])


class DockerVolumes(Volumes, Story, services.Case):
    kind = "docker"


class PodmanVolumes(Volumes, Story, services.Case):
    kind = "podman"


if __name__ == "__main__":
    services.main()
