"""A jobc that is killed at one certain moment of what it does with a container, between its request and the answer. Whoever goes on
finds neither too much nor too little: nothing is taken for the end of a program that was not, and no container stays."""
import signal

import services
from adoption_test import Killed, TEXT, TRAPS
from gate import Gate
from story import Story, wait_until

CONTAINER = "/containers/[^/]+"
ALONE = '''edition = 1
profile box default {{ backend = {kind} {{ network = "none", mounts = {{ flags = {{ source = "{flags}", target = "/flags", read_only = false }} }} }} }}
job far {{ image = "{image}" run = ["echo", "far"] output {{ text: String = stdout() }} }}
export {{ text: String = far.text }}
'''
ALL = ["0", "1", "2"]


class Moments(Killed):
    def setUp(self):
        super().setUp()
        self.gate = Gate(self.at_engine.socket, self.base / "gate")
        self.addCleanup(self.gate.close)

    def die_at(self, moment, *words, **options):
        """Kills what does this when the moment has come."""
        self.killed_at(moment, self.start(*words, env={self.host_name(): self.gate.host}, **options))

    def killed_at(self, moment, process):
        wait_until(lambda: process.poll() is not None or moment.came.is_set(), seconds=60, what=f"{moment.method} {moment.path.pattern}")
        self.assertIsNone(process.poll(), process.poll() is not None and process.communicate())
        process.send_signal(signal.SIGKILL)
        process.wait()

    def go_on(self, *words, took=(0, 1, 2), ran=None):
        """To the end, and everything is as it should be."""
        self.flag("go").touch()
        done = self.jobc(*words)
        run = words[1] if words[0] == "resume" and len(words) > 1 else self.last_run()
        self.assertEqual(done.json, {"n": list(took), "text": "text\n" * len(took)})
        if ran is not None:
            self.assertEqual(self.ran(), ran)
        for i in took:
            self.assertEqual(self.jobc("logs", run, f'far["{i}"]', "--stream", "stdout").out.splitlines()[-2:], ["before", "after"])
        self.assertEqual(self.mine(), [], "no container is left")
        return done

    def verdicts(self, run, address):
        return [(one.get("kind"), one.get("class")) for one in self.instances(run)[address]["attempts"]]

    # -- Ending them ---------------------------------------------------------------------

    def left(self):
        """Three containers go on without jobc, and none of them is what the file says by now."""
        self.write_job(TRAPS)
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        self.assertEqual(len(self.mine()), 3)
        self.write_job(TRAPS.replace("echo before;", "echo before; : other;"))

    def ended(self):
        return [one for one in self.mine() if one["State"] != "running"]

    def test_a_new_run_before_the_first_signal(self):
        self.left()
        self.die_at(self.gate.hold("POST", f"{CONTAINER}/kill$", "asked"), "run", "a.job", "--resume")
        self.assertEqual(len(self.mine()), 3)
        # They were given up: nobody takes them over, and their end is nobody's result.
        self.go_on("resume", ran=sorted(2 * ALL))

    def test_a_new_run_between_signal_and_removal(self):
        self.left()
        self.die_at(self.gate.hold("DELETE", f"{CONTAINER}$", "asked"), "run", "a.job", "--resume")
        # Told to end, they have ended with 3: as failures of the program, if somebody took them over.
        self.assertEqual(len(self.ended()), 3)
        self.go_on("resume", ran=sorted(2 * ALL))

    def test_a_new_run_after_the_first_removal(self):
        self.left()
        self.die_at(self.gate.hold("DELETE", f"{CONTAINER}$"), "run", "a.job", "--resume")
        self.assertEqual(len(self.mine()), 2)
        self.go_on("run", "a.job", "--resume", ran=sorted(2 * ALL))

    def test_cancel_before_the_first_signal(self):
        self.left()
        self.die_at(self.gate.hold("POST", f"{CONTAINER}/kill$", "asked"), "cancel")
        self.go_on("resume", ran=sorted(2 * ALL))

    def test_cancel_between_signal_and_removal(self):
        self.left()
        self.die_at(self.gate.hold("DELETE", f"{CONTAINER}$", "asked"), "cancel")
        self.assertEqual(len(self.ended()), 3)
        self.assertSays(self.jobc("cancel").err, "3 containers were ended and removed")
        self.assertEqual(self.mine(), [])
        self.go_on("resume", ran=sorted(2 * ALL))

    def test_cancel_of_a_new_run_that_was_given_them(self):
        """What it had not come to is ended with it, and the run it was of knows."""
        self.write_job(TRAPS)
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        first = self.last_run()
        process = self.start("run", "a.job", "--resume", "--max-parallel", "1")
        wait_until(lambda: any(self.runs_after(first, f'far["{i}"]') for i in range(3)), what="one of them to be taken over")
        process.kill()
        process.wait()
        self.die_at(self.gate.hold("DELETE", f"{CONTAINER}$", "asked"), "cancel")
        self.assertNotEqual(self.ended(), [])
        self.go_on("resume", first, ran=sorted(2 * ALL))

    def taken_over_and_ended(self):
        """A new run has taken them over and is interrupted: killed when they end, with 3, as they were told to."""
        self.write_job(TRAPS)
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        first = self.last_run()
        process = self.begin_again(env={self.host_name(): self.gate.host})
        moment = self.gate.hold("POST", f"{CONTAINER}/kill$")
        process.send_signal(signal.SIGINT)
        self.killed_at(moment, process)
        wait_until(self.ended, what="the first of them to end")
        return first

    def test_taken_over_and_ended_and_the_new_run_goes_on(self):
        self.taken_over_and_ended()
        self.go_on("resume", ran=sorted(2 * ALL))

    def test_taken_over_and_ended_and_the_first_run_goes_on(self):
        self.go_on("resume", self.taken_over_and_ended(), ran=sorted(2 * ALL))

    # -- Making them ---------------------------------------------------------------------

    def dies_when_created(self, when):
        self.die_at(self.gate.hold("POST", "/containers/create$", when), "run", "a.job", "--max-parallel", "3")
        if when == "done":
            self.assertIn("created", {one["State"] for one in self.mine()})

    def test_created_and_resumed(self):
        self.dies_when_created("done")
        self.go_on("resume")

    def test_created_and_cancelled(self):
        self.dies_when_created("done")
        self.jobc("cancel", "--now")
        self.assertEqual(self.mine(), [])
        self.go_on("resume")

    def test_created_and_used_by_a_new_run(self):
        self.dies_when_created("done")
        self.go_on("run", "a.job", "--resume")

    def test_asked_for_and_resumed(self):
        self.dies_when_created("asked")
        self.go_on("resume")

    def dies_while_it_is_made(self):
        moment = self.gate.hold("POST", "/containers/create$", "asked")
        self.die_at(moment, "run", "a.job", "--max-parallel", "1")
        self.assertEqual(self.mine(), [])
        return moment

    def comes_late(self, moment, *words):
        process = self.start(*words)
        wait_until(lambda: process.poll() is not None or self.ran(), seconds=60, what="another one to run in its stead")
        moment.deliver()
        # Made, or refused because what it was to be given is gone by now.
        wait_until(lambda: process.poll() is not None or moment.answered.is_set(), what="the late one")
        self.flag("go").touch()
        self.assertEqual(self.finish(process).json["n"], [0, 1, 2])
        self.assertEqual(self.mine(), [], "nobody will start it")

    def test_made_late_and_resumed(self):
        self.comes_late(self.dies_while_it_is_made(), "resume")

    def test_made_late_and_used_by_a_new_run(self):
        self.comes_late(self.dies_while_it_is_made(), "run", "a.job", "--resume")

    def test_made_late_and_cancelled(self):
        moment = self.dies_while_it_is_made()
        process = self.start("cancel")
        moment.deliver()
        self.assertSays(self.finish(process).err, "1 container was ended and removed")
        self.assertEqual(self.mine(), [])

    def test_killed_while_one_that_had_not_begun_is_removed(self):
        """The removal is on its way when the next one looks: it does not take over what is about to vanish."""
        self.dies_when_created("done")
        self.die_at(self.gate.hold("DELETE", f"{CONTAINER}$", "asked"), "resume")
        # What the removal overtook: a start that the first jobc had asked for.
        created = [one for one in self.mine() if one["State"] == "created"]
        self.assertNotEqual(created, [])
        for one in created:
            self.at_engine.api("POST", f"/containers/{one['Id']}/start")
        self.go_on("resume")
        self.assertEqual({kind for address in self.states() if address.startswith("far") for kind, _ in self.verdicts(self.last_run(), address)[:-1]} - {"node_lost"}, set())

    def test_started_and_not_heard_of(self):
        self.die_at(self.gate.hold("POST", f"{CONTAINER}/start$"), "run", "a.job", "--max-parallel", "3")
        wait_until(lambda: self.ran(), what="it to run")
        self.go_on("resume")

    # -- Their ends ----------------------------------------------------------------------

    def test_ended_and_removed(self):
        """Its result is in the journal before its container goes: what is gone has finished."""
        self.flag("go").touch()
        self.die_at(self.gate.hold("DELETE", f"{CONTAINER}$"), "run", "a.job", "--max-parallel", "3")
        done = {address for address, state in self.states().items() if state == "succeeded"}
        self.assertNotEqual(done, set())
        self.go_on("resume")
        for address in done:
            self.assertEqual(len(self.instances()[address]["attempts"]), 1, f"{address} ran once")

    def test_ended_and_not_yet_removed(self):
        self.flag("go").touch()
        self.die_at(self.gate.hold("DELETE", f"{CONTAINER}$", "asked"), "run", "a.job", "--max-parallel", "3")
        self.assertNotEqual(self.mine(), [])
        self.go_on("resume")

    def ended_with_its_run(self):
        """Its end is in the journal, that of the run perhaps as well, and it was not removed."""
        self.write_job(ALONE)
        self.die_at(self.gate.hold("DELETE", f"{CONTAINER}$", "asked", every=True), "run", "a.job")
        self.assertEqual(self.states(), {"far": "succeeded"})
        self.assertEqual(len(self.mine()), 1)

    def test_ended_with_its_run_and_resumed(self):
        self.ended_with_its_run()
        self.assertEqual(self.jobc("resume").json, {"text": "far\n"})
        self.assertEqual(self.mine(), [])

    def test_ended_with_its_run_and_used_by_a_new_run(self):
        self.ended_with_its_run()
        self.assertEqual(self.jobc("run", "a.job", "--resume").json, {"text": "far\n"})
        self.assertEqual(self.mine(), [])

    def test_ended_with_its_run_and_cancelled(self):
        self.ended_with_its_run()
        self.assertSays(self.jobc("cancel").err, "1 container was ended and removed")
        self.assertEqual(self.mine(), [])

    # -- Their output --------------------------------------------------------------------

    def test_a_log_that_is_empty_at_first(self):
        """An engine gives nothing of a container that is just being started: what was taken over then is asked for its output again."""
        self.kill_in_the_middle("run", "a.job", "--max-parallel", "3")
        empty = self.gate.hold("GET", f"{CONTAINER}/logs$", "empty")
        process = self.start("resume", env={self.host_name(): self.gate.host})
        wait_until(lambda: process.poll() is not None or empty.came.is_set(), what="the output to be asked for")
        self.flag("go").touch()
        self.check(self.finish(process))


class DockerMoments(Moments, Story, services.Case):
    kind = "docker"


class PodmanMoments(Moments, Story, services.Case):
    kind = "podman"


if __name__ == "__main__":
    services.main()
