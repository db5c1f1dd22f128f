"""Secrets whose values change between the death of a jobc and the resume that takes its containers over: they go on with the former values,
which are hidden as well as the new ones."""
import base64
import signal

import services
from story import Story, wait_until

IMAGE = "localhost/jobc-test/busybox:1"
FORMER, LATER = "former-horse-battery", "later-donkey-staple"
TEXT = '''edition = 1
profile box default {{ backend = {kind} {{ network = "none", mounts = {{ flags = {{ source = "{flags}", target = "/flags", read_only = false }} }} }} }}
defaults {{ image = "{image}" }}
secret token = env("TOKEN")
secret other = env("OTHER")
job a {{
  env {{ HEADER = "Bearer ~{{token}} of ~{{other}}" }}
  secret_files {{ "t" = token }}
  script = <<~SH
    word=${{HEADER#Bearer }}; word=${{word% of *}}
    echo "before $word"; echo "$word" >&2; touch /flags/began; until [ -e /flags/go ]; do sleep 0.05; done
    echo "after $word"; printf %s "$word" | base64; cat $JOB_SECRETS/t 2>/dev/null; echo "$HEADER"; echo end
    {last}
  SH
  {output}
}}
export {{ {export} }}
'''


class Secrets:
    kind = ""
    unprivileged = False

    def setUp(self):
        super().setUp()
        self.at_engine = self.enterContext(self.engine(self.kind))
        self.addCleanup(self.remove_mine)

    def environment(self, **more):
        name = "CONTAINER_HOST" if self.kind.startswith("podman") else "DOCKER_HOST"
        return super().environment(**{name: self.at_engine.host, "OTHER": "stays-as-it-is", **more})

    def mine(self):
        return self.containers_of_story(self.at_engine)

    def remove_mine(self):
        for one in self.mine():
            self.at_engine.api("DELETE", f"/containers/{one['Id']}?force=1")

    def interrupted(self, text=TEXT, later=LATER, last="", output="", export="", meanwhile=lambda: None):
        """Killed when its container has spoken, and resumed with another value."""
        text = text.format(kind=self.kind.split("-")[0], flags=self.flags, image=IMAGE, last=last, output=output, export=export).replace("export {  }\n", "")
        self.write(text)
        process = self.start("run", "a.job", env={"TOKEN": FORMER})
        self.wait_for("began", 60)
        wait_until(lambda: "before ***" in self.jobc("logs", "a", code=None).out, 20, "its first words")
        process.send_signal(signal.SIGKILL)
        process.wait()
        meanwhile()
        process = self.start("resume", env={"TOKEN": later})
        wait_until(lambda: process.poll() is not None or self.jobc("status", "--json").json["status"] == "running", 30, "the run to go on")
        self.flag("go").touch()
        return process

    def assertNowhere(self):
        """Neither is in any file of the run, in whatever form."""
        forms = [form for word in (FORMER, LATER) for form in (word.encode(), base64.b64encode(word.encode()))]
        for path in (self.at / ".jobc").rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                for form in forms:
                    self.assertNotIn(form, content, str(path))

    def check_output(self, done):
        self.assertSays(done.err, "another value now", "masked as well")
        self.assertEqual(self.jobc("logs", "a", "--stream", "stdout").out.splitlines()[:2], ["before ***", "after ***"])
        self.assertSays(self.jobc("logs", "a", "--stream", "stdout").out, "Bearer *** of ***", "end\n")
        self.assertEqual(self.jobc("logs", "a", "--stream", "stderr").out, "***\n")
        self.assertNotIn(FORMER, done.err + done.out)
        wait_until(lambda: not self.mine(), what="the container to be removed")
        self.assertNowhere()

    def test_the_former_value_is_hidden_too(self):
        self.check_output(self.finish(self.interrupted()))

    def test_also_of_what_ended_meanwhile(self):
        def end():
            self.flag("go").touch()
            wait_until(lambda: all(one["State"] != "running" for one in self.mine()), what="the container to end")
        self.check_output(self.finish(self.interrupted(meanwhile=end)))

    def test_a_file_alone(self):
        text = TEXT.replace('env {{ HEADER = "Bearer ~{{token}} of ~{{other}}" }}', "").replace("word=${{HEADER#Bearer }}; word=${{word% of *}}", "HEADER=; word=$(cat $JOB_SECRETS/t)")
        done = self.finish(self.interrupted(text=text))
        self.assertSays(done.err, "another value now", "masked as well")
        self.assertEqual(self.jobc("logs", "a", "--stream", "stdout").out.splitlines()[:2], ["before ***", "after ***"])
        self.assertNowhere()

    def test_a_result_that_holds_it_is_not_kept(self):
        done = self.finish(self.interrupted(last='echo "{\\"v\\": \\"$word\\"}" > $JOB_RESULT', output="output { v: String }", export="v: String = a.v"), code=10)
        self.assertSays(done.err, "contains a secret")
        self.assertNowhere()

    def test_nothing_is_said_where_nothing_changed(self):
        done = self.finish(self.interrupted(later=FORMER))
        self.assertNotIn("another value", done.err)
        self.assertNowhere()


class DockerSecrets(Secrets, Story, services.Case):
    kind = "docker"


class PodmanSecrets(Secrets, Story, services.Case):
    kind = "podman"


if __name__ == "__main__":
    services.main()
