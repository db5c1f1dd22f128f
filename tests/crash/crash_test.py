#!/usr/bin/env python3
"""Kills jobc at random moments and looks whether anything was lost. usage: crash_test.py JOBC [--seed N] [--kills N] [--workers N] [--keep]

Each case is a generated file: scatters, chains, a scatter over the output of a job, retries, tolerated failures, daemons,
outputs, publish and `finally`. It runs once undisturbed; then again and again with jobc killed (SIGKILL) at a random moment, in a
third of the cases its guardian too, resumed, killed again, until it ends. After each kill

- no process of the run is alive within 2 s (zombies do not count), without any jobc having helped,
- the journal is a sound database and `jobc status` tells from it,
- what has finished has really run to its end.

After the last resume, exit code, states, exports, published files and logs are those of the undisturbed run, no instance that was
finished at a kill has been started after it, and no attempt that the journal had at a kill has got its number or its execution id
a second time.

JOBC_KILLS: how many kills (50). JOBC_SEED: where the cases begin (1); a failure names the seed of its case. Cases wait more than
they compute, so several go on at once: as many as there are processors, and one.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE_S = 2.0
FINISHED = ("succeeded", "failed", "skipped")


class Fault(Exception):
    """Something was lost, left over or wrong."""


def check(condition, message):
    if not condition:
        raise Fault(message)


# -- Generated files ---------------------------------------------------------------------------------------------------

# What each job does: it says in the ledger that it begins, leaves daemons now and then, works a moment, says that it is done.
BODY = """\
    echo "begin $JOB_NAME $JOB_KEY $JOB_ATTEMPT $JOB_EXECUTION_ID" >> @LEDGER@
    echo "says $JOB_NAME $JOB_KEY"
@WORK@
    echo "end $JOB_NAME $JOB_KEY $JOB_ATTEMPT $JOB_EXECUTION_ID" >> @LEDGER@
"""


def work(rng, marker):
    """Shell lines: processes to be found by their argv, some of which leave their session, their group and their environment."""
    sleep = rng.choice([0.0, 0.005, 0.01, 0.02, 0.05])
    lines = [f"sh -c 'sleep {sleep}; :' {marker}"] if rng.random() < 0.5 else [f"sleep {sleep}"]
    if rng.random() < 0.3:
        lines.insert(0, f"setsid sh -c 'sleep 60; :' {marker} > /dev/null 2>&1 &")
    if rng.random() < 0.2:
        lines.insert(0, f"(env -i /usr/bin/setsid /bin/sh -c '(sleep 60; :) & exit 0' {marker} &) > /dev/null 2>&1")
    return "\n".join("    " + line for line in lines)


def script(rng, marker, after=""):
    return "  script = <<~SH\n" + BODY.replace("@WORK@", work(rng, marker)) + (after + "\n" if after else "") + "  SH\n"


def generate(rng, marker, ledger):
    """The text of a file, and which kinds of jobs it has."""
    items = rng.randint(2, 8)
    parts = ["edition = 1\n"]
    exports, published = [], []

    # A job that many wait for; its result is the domain of a dynamic scatter.
    count = rng.randint(0, 5)
    listed = ", ".join(f'"d{i}"' for i in range(count))
    parts.append("job first {\n" + script(rng, marker, f'    printf \'{{"names": [{listed}]}}\' > "$JOB_RESULT"')
                 + "  output { names: List<String> }\n}\n")

    # A static scatter with a file each, and one that follows it instance by instance.
    parts.append(f"job part {{\n  for i in range({items}) key \"k~{{i}}\"\n  after = [first]\n"
                 + script(rng, marker, "    echo \"part ~{i}\" > ~{output.file}") + '  output { file: File = "part-~{i}.txt" }\n}\n')
    parts.append(f"job next {{\n  for i in range({items}) key \"k~{{i}}\"\n  input {{ file: File = part[\"k~{{i}}\"].file }}\n"
                 + script(rng, marker, '    cat ~{input.file} > ~{output.file}; echo "next" >> ~{output.file}')
                 + '  output { file: File = "next-~{i}.txt", text: String = trim(read_text("next-~{i}.txt")) }\n}\n')
    exports.append("texts: List<String> = next[*].text")
    published.append('"next/" = next[*].file')

    if rng.random() < 0.7:
        parts.append("job wide {\n  for name in first.names key name max 10\n"
                     + script(rng, marker, '    printf \'{"size": %d}\' "$(printf %s "$JOB_KEY" | wc -c)" > "$JOB_RESULT"')
                     + "  output { size: Int }\n}\n")
        exports.append("sizes: Int = sum(wide[*].size)")
    if rng.random() < 0.7:
        # Fails on its first attempts, whether or not those were cut off.
        parts.append("job flaky {\n  for i in range(3) key \"f~{i}\"\n  retry { max_attempts = 40, backoff = constant(20ms), on = [exit] }\n"
                     + script(rng, marker, f"    test \"$JOB_ATTEMPT\" -gt {rng.randint(1, 3)}") + "}\n")
        parts.append("job after_flaky {\n  after = [flaky]\n" + script(rng, marker) + "}\n")
    if rng.random() < 0.6:
        parts.append("job bad {\n  for i in range(2) key \"b~{i}\"\n  on_error = ignore\n"
                     + script(rng, marker, "    exit 3") + "  output { t: String = stdout() }\n}\n")
        parts.append("job despite {\n  after = [bad.done]\n" + script(rng, marker) + "}\n")
        exports.append("bad: Int = bad.count")
    if rng.random() < 0.4:
        parts.append("job never {\n  when = length(first.names) > 100\n" + script(rng, marker) + "}\n")
    fails = rng.random() < 0.25
    if fails:
        # The run fails, and what does not depend on it goes on.
        parts.append("job broken {\n  on_error = continue\n" + script(rng, marker, "    exit 4") + "}\n")
        parts.append("job behind {\n  after = [broken]\n" + script(rng, marker) + "}\n")
    if rng.random() < 0.6:
        parts.append("finally tidy {\n" + script(rng, marker) + "}\n")
    parts.append("export {\n" + "".join(f"  {line}\n" for line in exports) + "}\n")
    parts.append('publish "published" { ' + ", ".join(published) + " }\n")
    return "".join(parts).replace("@LEDGER@", str(ledger))


# -- Processes ---------------------------------------------------------------------------------------------------------

def processes(needles):
    """pid -> words, of the processes alive whose argv or environment contains one of the needles."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read()
            with open(f"/proc/{name}/environ", "rb") as file:
                environ = file.read()
            if not any(needle in words or needle in environ for needle in needles):
                continue
            with open(f"/proc/{name}/stat", "rb") as file:
                state = file.read().rsplit(b")", 1)[1].split()[0]
            if state not in (b"Z", b"X"):
                found[int(name)] = words.replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            pass  # it ended, or it belongs to someone else
    return found


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


# -- One case ----------------------------------------------------------------------------------------------------------

class Case:
    def __init__(self, jobc, seed, budget):
        self.jobc, self.seed, self.budget = jobc, seed, budget
        self.rng = random.Random(seed)
        self.base = pathlib.Path(tempfile.mkdtemp(prefix=f"jobc-crash-{seed}-"))
        self.marker = f"jobc-crash-{os.getpid()}-{seed}"
        self.ledger = self.base / "ledger"
        self.kills = self.guardian_kills = self.again = self.lives = 0
        self.story = []
        self.run_words = ("run", "a.job", "--max-parallel", str(self.rng.randint(1, 6)), "--durability", self.rng.choice(("full", "normal")))

    # What jobc does.

    def environment(self):
        return {"PATH": os.environ["PATH"], "HOME": str(self.base), "JOBC_CRASH": self.marker, "LC_ALL": "C.UTF-8"}

    def start(self, at, *words):
        with open(self.base / "output", "ab") as output:
            return subprocess.Popen([self.jobc, *words], cwd=at, env=self.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)

    def call(self, at, *words, codes=(0,)):
        done = subprocess.run([self.jobc, *words], cwd=at, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        check(done.returncode in codes, f"`jobc {' '.join(words)}` exited with {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
        return done.stdout.decode()

    def finish(self, process, what, timeout=60):
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = subprocess.run([self.jobc, "status", "--json", "--instances"], cwd=self.base / "disturbed", env=self.environment(), capture_output=True, timeout=60)
            raise Fault(f"{what} did not end within {timeout} s\n{status.stdout.decode()}")

    # What is looked at.

    def run_id(self, at):
        runs = at / ".jobc" / "runs"
        ids = sorted(os.listdir(runs)) if runs.exists() else []
        return ids[-1] if ids else None

    def ledger_lines(self):
        """(begin or end, address, attempt, execution id) of all that ran so far."""
        lines = []
        if self.ledger.exists():
            for line in self.ledger.read_text().splitlines():
                words = line.split(" ")
                check(len(words) == 5, f"a torn line in the ledger: {line}")
                what, name, key, attempt, execution = words
                lines.append((what, f'{name}["{key}"]' if key else name, int(attempt), execution))
        return lines

    def status(self, at):
        return json.loads(self.call(at, "status", "--json", "--instances"))

    def outcome(self, at, code):
        """What must be the same however often the run was killed."""
        status = self.status(at)
        result = self.call(at, "result", "--json", codes=(0, 10))
        published = {}
        root = at / "published"
        for path in sorted(root.rglob("*")) if root.exists() else []:
            name = str(path.relative_to(root))
            check(".jobc-" not in name, f"publishing left {name} behind")
            if path.is_file() and path.name != "jobc-manifest.json":
                published[name] = path.read_text()
        logs = collections.Counter()
        for line in self.call(at, "logs", "--json").splitlines():
            logs[json.loads(line).get("text", "")] += 1
        says = sorted(text for text in logs if text.startswith("says "))
        return {"code": code, "status": status["status"], "states": {one["address"]: one["state"] for one in status["instances"]},
                "result": json.loads(result), "published": published, "says": says}

    def expect_nothing_alive(self, at):
        needles = [self.marker.encode()]
        if run := self.run_id(at):
            needles.append(b"JOB_RUN_ID=" + run.encode())
        end = time.monotonic() + PATIENCE_S
        while left := processes(needles):
            check(time.monotonic() < end, f"{PATIENCE_S} s after the kill there is still: {left}")
            time.sleep(0.005)

    def expect_sound_journal(self, at, run):
        """Looked at in a copy: this must not help jobc."""
        copy = self.base / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in ("journal.db", "journal.db-wal"):
            source = at / ".jobc" / "runs" / run / name
            if source.exists():
                shutil.copyfile(source, copy / name)
        database = sqlite3.connect(copy / "journal.db")
        try:
            answer = database.execute("pragma integrity_check").fetchall()
            check(answer == [("ok",)], f"the journal is damaged: {answer}")
            numbers = [row[0] for row in database.execute("select seq from record order by seq")]
            check(numbers == list(range(1, len(numbers) + 1)), "records of the journal are missing")
        finally:
            database.close()

    # The story.

    def undisturbed(self, at):
        begin = time.monotonic()
        code = self.finish(self.start(at, *self.run_words), "the undisturbed run")
        self.duration = time.monotonic() - begin
        check(code in (0, 10), f"the undisturbed run exited with {code}: {(self.base / 'output').read_text()}")
        self.expect_nothing_alive(at)
        return self.outcome(at, code)

    def kill_later(self, process):
        """Kills it at a random moment, in a third of the cases with its guardian. False if it ended before that."""
        time.sleep(self.rng.uniform(0, self.duration * 1.1))
        guardian = self.rng.random() < 1 / 3
        victims = [process.pid]
        if guardian:
            victims += children(process.pid)
            self.rng.shuffle(victims)
            # jobc first: one that sees its guardian die first rightly says `node_lost`, which is another story.
            victims.sort(key=lambda pid: pid != process.pid)
        if process.poll() is not None:
            return False
        for pid in victims:
            kill(pid)
            if guardian and self.rng.random() < 0.5:
                time.sleep(self.rng.uniform(0, 0.005))
        process.wait()
        if process.returncode != -signal.SIGKILL:
            return False
        self.kills += 1
        self.guardian_kills += len(victims) > 1
        self.story.append(f"killed {victims}, jobc is {process.pid}")
        return True

    def after_kill(self, at):
        """Addresses that are finished, and the highest attempt that the journal has of each instance."""
        self.expect_nothing_alive(at)
        run = self.run_id(at)
        if run is None:
            return None
        if (at / ".jobc" / "runs" / run / "journal.db").exists():
            self.expect_sound_journal(at, run)
        found = subprocess.run([self.jobc, "status", "--json", "--instances"], cwd=at, env=self.environment(), capture_output=True, timeout=60)
        if found.returncode == 2 and b"no runs" in found.stderr:
            check(not self.ledger_lines(), "jobs ran, but there is no run")
            return None  # it was killed before its run was made
        check(found.returncode == 0, f"`jobc status` exited with {found.returncode}: {found.stderr.decode()}")
        status = json.loads(found.stdout)
        ended = {(address, attempt) for what, address, attempt, _ in self.ledger_lines() if what == "end"}
        finished = {}
        attempts = {}
        for one in status["instances"]:
            address = one["address"]
            numbers = [attempt["number"] for attempt in one["attempts"]]
            # A `finally` begins anew with each life of the run.
            check(numbers == sorted(set(numbers)) or address == "tidy", f"{address} has attempts {numbers}")
            if numbers:
                attempts[address] = max(numbers)
            if one["state"] in FINISHED and address != "tidy":
                finished[address] = one["state"]
                if one["state"] != "skipped":
                    check((address, numbers[-1]) in ended, f"{address} is {one['state']} in the journal, but has not ended")
        return {"run": run, "finished": finished, "attempts": attempts, "ledger": len(self.ledger_lines())}

    def play(self):
        places = [self.base / name for name in ("quiet", "disturbed")]
        for place in places:
            place.mkdir()
            self.ledger.unlink(missing_ok=True)
        text = generate(self.rng, self.marker, self.ledger)
        for place in places:
            (place / "a.job").write_text(text)
        expected = self.undisturbed(places[0])
        at = places[1]
        while self.kills < self.budget:
            self.ledger.unlink(missing_ok=True)
            for name in (".jobc", "published"):
                shutil.rmtree(at / name, ignore_errors=True)
            self.live(at, expected)

    def live(self, at, expected):
        """One run, killed at least once if it can be."""
        self.lives += 1
        self.story = []
        moments = []
        code = None
        for life in range(1 + self.rng.randint(1, 4)):
            if code is not None:
                break
            last = moments[-1] if moments else None
            words = ("resume",) if last else self.run_words
            process = self.start(at, *words)
            if not self.kill_later(process):
                code = process.wait()
                self.story.append(f"{words[0]} ended with {code}")
                break
            moment = self.after_kill(at)
            if moment:
                moments.append(moment)
                self.story.append(f"then {sum(state in FINISHED for state in moment['finished'].values())} finished")
        if code is None:
            code = self.finish(self.start(at, *(("resume",) if moments else self.run_words)), "the last resume")
            self.story.append(f"the last one ended with {code}")
        elif moments and code not in (0, 10):
            raise Fault(f"jobc exited with {code}: {(self.base / 'output').read_text()[-4000:]}")
        self.expect_nothing_alive(at)
        journals = sorted(str(path) for path in (at / ".jobc" / "runs").glob("*/journal.db"))
        check(len(journals) == 1, f"there should be one run: {journals}")
        found = self.outcome(at, code)
        for key, value in expected.items():
            check(found[key] == value, f"{key} is not as undisturbed\nexpected {value}\nfound    {found[key]}\n{(self.base / 'output').read_text()[-4000:]}")
        lines = self.ledger_lines()
        begins = [line[1:] for line in lines if line[0] == "begin"]
        executions = collections.Counter(execution for _, _, execution in begins)
        check(not [one for one, count in executions.items() if count > 1], f"an execution id was given twice: {executions.most_common(3)}")
        for moment in moments:
            for what, address, attempt, _ in lines[moment["ledger"]:]:
                if what == "begin" and address != "tidy":
                    check(address not in moment["finished"], f"{address} was {moment['finished'].get(address)} at a kill and ran again")
                    check(attempt > moment["attempts"].get(address, 0), f"attempt {attempt} of {address} was journaled at a kill and its number was given again")
        self.again += len(begins) - len({address for address, _, _ in begins})
        # What succeeded has run to its end: once, unless an attempt was cut off whose intent was not in the journal yet.
        ends = collections.Counter((address, attempt) for what, address, attempt, _ in lines if what == "end")
        starts = collections.Counter((address, attempt) for address, attempt, _ in begins)
        for one in self.status(at)["instances"]:
            if one["state"] == "succeeded" and one["address"] != "tidy":
                last = one["address"], one["attempts"][-1]["number"]
                check(ends[last] >= 1, f"attempt {last[1]} of {last[0]} succeeded, but did not end")
                check(ends[last] <= 1 + len(moments) and starts[last] <= 1 + len(moments), f"attempt {last[1]} of {last[0]} ran {starts[last]} times in {1 + len(moments)} lives")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("jobc")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("JOBC_SEED", "1")))
    parser.add_argument("--kills", type=int, default=int(os.environ.get("JOBC_KILLS", "50")))
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)) + 1, help="cases at once")
    parser.add_argument("--keep", action="store_true", help="leave the directory of a failed case")
    arguments = parser.parse_args()
    jobc = os.path.abspath(arguments.jobc)
    begin = time.monotonic()
    totals = collections.Counter()
    lock = threading.Lock()
    planned = collections.Counter(seed=arguments.seed)
    failed = threading.Event()

    def work_on_cases():
        while not failed.is_set():
            with lock:
                budget = min(8, arguments.kills - planned["kills"])
                if budget <= 0:
                    return
                seed = planned["seed"]
                planned.update(seed=1, kills=budget)
            case = Case(jobc, seed, budget)
            try:
                case.play()
            except Exception as fault:  # also what a test does wrong must end all of them
                failed.set()
                with lock:
                    what = fault if isinstance(fault, Fault) else f"{type(fault).__name__}: {fault}"
                    print(f"seed {seed}: {what}\n  story: {'; '.join(case.story)}\n  after {totals['kills'] + case.kills} kills; again: JOBC_SEED={seed}", file=sys.stderr)
                    for pid in processes([case.marker.encode()]):
                        kill(pid)
                    if arguments.keep:
                        print(f"  {case.base}", file=sys.stderr)
                    else:
                        shutil.rmtree(case.base, ignore_errors=True)
                return
            shutil.rmtree(case.base, ignore_errors=True)
            with lock:
                totals.update(kills=case.kills, guardians=case.guardian_kills, again=case.again, lives=case.lives, cases=1)

    workers = [threading.Thread(target=work_on_cases) for _ in range(max(1, arguments.workers))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed.is_set():
        return 1
    print(f"{totals['kills']} kills ({totals['guardians']} with the guardian) of {totals['lives']} runs of {totals['cases']} files in "
          f"{time.monotonic() - begin:.0f} s: nothing lost, nothing left; {totals['again']} attempts were cut off or retried")
    return 0


if __name__ == "__main__":
    sys.exit(main())
