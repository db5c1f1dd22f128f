"""Kills jobc with SIGKILL at random moments while its containers are made, run and end, and goes on each time in one of the ways a person
may: `resume`, a new run with the results of the one that died, `cancel` and `resume`. At the end the results are those of a run that
nobody disturbed, nothing that had finished ran again, all output is there once, and no container is left.

JOBC_CONTAINER_KILLS: how many kills, of docker (20); podman, which is slower, gets two fifths of that. JOBC_SEED: where the random choices
begin (1); a failure names it."""
import os
import random
import shutil
import signal
import time
import unittest

import services
from adoption_test import IMAGE, Killed
from story import ROOT, Story, wait_until

PARTS = 4
TEXT = '''edition = 1
profile box default {{ backend = {kind} {{ network = "none", mounts = {{ flags = {{ source = "{flags}", target = "/flags", read_only = false }} }} }} }}
defaults {{ image = "{image}", grace = 2s, timeout {{ run = 2m }} }}
job part {{ for i in range({parts}) key i
  script = <<~SH
    echo "part["~{{i}}"] begin" >> /flags/ledger; echo says ~{{i}}; sleep {first}; echo part ~{{i}} > ~{{output.file}}; echo said; echo "part["~{{i}}"] end" >> /flags/ledger
  SH
  output {{ file: File = "part-~{{i}}.txt" }}
}}
job next {{ for i in range({parts}) key i
  input {{ file: File = part[i].file }}
  script = <<~SH
    echo "next["~{{i}}"] begin" >> /flags/ledger; sleep {second}; printf '{{"n": %d}}' $(wc -c < ~{{input.file}}) > "$JOB_RESULT"; cat ~{{input.file}}; echo "next["~{{i}}"] end" >> /flags/ledger
  SH
  output {{ n: Int, text: String = trim(stdout()) }}
}}
finally tidy {{ script = <<~SH
  echo "tidy begin" >> /flags/ledger
SH
}}
export {{ texts: List<String> = next[*].text, n: Int = sum(next[*].n) }}
'''
EXPECTED = {"texts": [f"part {i}" for i in range(PARTS)], "n": 7 * PARTS}


class Kills(Killed):
    share = 1.0

    def ledger(self, what):
        """How often each instance began or ended, by address without quotes."""
        path = self.flags / "ledger"
        counts = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            address, _, did = line.rpartition(" ")
            if did == what:
                counts[address] = counts.get(address, 0) + 1
        return counts

    def finished(self):
        """What the last run has finished, and how often it had begun by then."""
        if not self.has_run():
            return {}
        began = self.ledger("begin")
        done = {}
        for address, one in self.instances().items():
            plain = address.replace('"', "")
            if one["state"] == "succeeded" and plain != "tidy":
                self.assertIn(plain, self.ledger("end"), "it is in the journal, so it has ended")
                done[plain] = began[plain]
        return done

    def has_run(self):
        return any((self.at / ".jobc" / "runs").glob("*/journal.db"))

    def one(self, rng, kills):
        """One run, killed now and then until it ends; how often that was."""
        (self.flags / "ledger").unlink(missing_ok=True)
        self.write(TEXT.format(kind=self.kind.split("-")[0], flags=self.flags, image=IMAGE, parts=PARTS, first=rng.choice(["0", "0.1", "0.5"]), second=rng.choice(["0", "0.2"])))
        shutil.rmtree(self.at / ".jobc", ignore_errors=True)
        words = ["run", "a.job", "--max-parallel", "3"]
        story, killed, done, fresh = [], 0, {}, True
        while True:
            process = self.start(*words)
            if killed < kills:
                time.sleep(rng.choice([rng.uniform(0, 0.4), rng.uniform(0, 2.5)]))  # no waiting for something: the moment is what is tried
            else:
                process.wait(120)
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
            if not self.has_run() or (fresh and self.jobc("status", code=None).code != 0):
                story.append("killed before there was a run")
                continue
            fresh = False
            for address, began in self.finished().items():
                self.assertEqual(done.setdefault(address, began), began, f"{address} ran again ({story})")
            how = rng.choices(["resume", "again", "cancel"], [6, 3, 2])[0]
            story.append(f"killed, {len(self.mine())} containers, then {how}")
            if how == "cancel":
                self.jobc("cancel")
                self.assertEqual(self.mine(), [], story)
            words = ["run", "a.job", "--resume", "--max-parallel", "3"] if how == "again" else ["resume"]
        out, err = process.communicate()
        self.assertEqual(process.returncode, 0, f"{story}\n{err}")
        self.assertEqual(self.jobc("result", "--json").json, EXPECTED, story)
        began, ended = self.ledger("begin"), self.ledger("end")
        for address, times in done.items():
            self.assertEqual(began[address], times, f"{address} had finished and ran again ({story})")
        for i in range(PARTS):
            self.assertGreaterEqual(ended[f"next[{i}]"], 1)
            if self.instances()[f'part["{i}"]']["attempts"]:
                self.assertEqual(self.jobc("logs", f'part["{i}"]', "--stream", "stdout").out, f"says {i}\nsaid\n", story)
        wait_until(lambda: not self.mine(), what=f"the containers to be removed ({story})")
        return killed

    def test_random_kills(self):
        kills = int(self.share * int(os.environ.get("JOBC_CONTAINER_KILLS", "20")))
        first = seed = int(os.environ.get("JOBC_SEED", "1"))
        done = 0
        while done < kills:
            killed = 1
            with self.subTest(seed=seed):
                try:
                    killed = max(1, self.one(random.Random(seed), min(6, kills - done)))
                except BaseException:
                    self.remove_mine()  # not the next one's fault
                    raise
            done += killed
            seed += 1
        print(f"{self.kind}: {done} kills of {seed - first} runs")


class DockerKills(Kills, Story, services.Case):
    kind = "docker"


class PodmanKills(Kills, Story, services.Case):
    kind = "podman"
    share = 0.4


@unittest.skipUnless(ROOT, "only root can give another user subordinate ids for the time of a test")
class RootlessKills(Kills, Story, services.Case):
    kind = "podman-rootless"
    unprivileged = True
    share = 0.4


if __name__ == "__main__":
    services.main()
