#!/usr/bin/env python3
"""Measures the figures that jobc is held to, its peers beside it in the same run, and prints one table.

    bench/run.py [--build DIR] [--only NAME]... [--json] [--rounds N] [--parallel N]

Every comparison is made of interleaved rounds (peer, jobc, peer, jobc, …) and gives medians, so that a busy machine
disturbs both sides alike. Times are of whole processes, from the fork to the end. The inputs are made by inputs.py; they
and all state lie below DIR/bench-work, on the disk that holds the build, and are removed at the end. The build itself
takes minutes and is measured only by `--only build`.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time

import inputs

MiB = 1 << 20


class Sample:
    """One run of a program: seconds of wall time and of cpu time, peak resident bytes."""

    def __init__(self, seconds, usage):
        self.seconds = seconds
        self.cpu = usage.ru_utime + usage.ru_stime
        self.peak = usage.ru_maxrss * 1024


class Row:
    """A line of the table. `met` is None where nothing is asked for."""

    def __init__(self, name, what, value, peer="", target="", met=None, **numbers):
        self.name, self.what, self.value, self.peer, self.target, self.met = name, what, value, peer, target, met
        self.numbers = numbers


class Bench:
    def __init__(self, options):
        self.options = options
        self.build = pathlib.Path(options.build).resolve()
        self.work = self.build / "bench-work"
        self.jobc = str(self.build / "jobc")
        self.small = options.small
        self.parallel = options.parallel or len(os.sched_getaffinity(0))

    # -- measuring ---------------------------------------------------------------------------

    def run(self, *command, env=None):
        """Runs a command to its end. A command that fails ends the benchmark: its time would mean nothing."""
        errors = self.work / "stderr"
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                   (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                   (os.POSIX_SPAWN_OPEN, 2, str(errors), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)]
        begin = time.perf_counter()
        pid = os.posix_spawnp(command[0], command, env or os.environ, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - begin
        if status != 0:
            sys.exit(f"bench: `{' '.join(command)}` failed ({os.waitstatus_to_exitcode(status)}):\n"
                     + errors.read_text(errors="replace")[-2000:])
        return Sample(seconds, usage)

    def rounds(self, count, **commands):
        """Interleaved rounds of several commands: {name: [Sample, …]}. One round before is not counted."""
        samples = {name: [] for name in commands}
        for number in range(count + 1):
            for name, command in commands.items():
                command = command if isinstance(command, dict) else {"command": command}
                if "before" in command:
                    command["before"]()
                sample = self.run(*command["command"])
                if number > 0:
                    samples[name].append(sample)
        return samples

    def count(self, usual):
        return self.options.rounds or (1 if self.small else usual)

    def file(self, name, text):
        path = self.work / name
        with open(path, "w") as out:
            out.writelines([text] if isinstance(text, str) else text)
        return str(path)

    def fresh_state(self):
        """Runs keep their state beside the source; what earlier rounds left must not slow down later ones."""
        shutil.rmtree(self.work / ".jobc", ignore_errors=True)

    # -- the figures -------------------------------------------------------------------------

    def check_hello(self):
        hello = self.file("hello.job", inputs.HELLO)
        samples = self.rounds(self.count(100), true=("/bin/true",), jobc=(self.jobc, "check", hello))
        true, jobc = median(samples["true"]), median(samples["jobc"])
        yield Row("check-hello", "`jobc check hello.job`, whole process", ms(jobc), f"/bin/true {ms(true)}",
                  f"≤ 5 × (is {jobc / true:.2f} ×)", jobc <= 5 * true, seconds=jobc, peer_seconds=true)

    def run_hello(self):
        hello = self.file("hello.job", inputs.HELLO)
        samples = self.rounds(self.count(50), echo=("/bin/echo", "hello, world!"),
                              jobc={"command": (self.jobc, "run", hello), "before": self.fresh_state})
        echo, jobc = median(samples["echo"]), median(samples["jobc"])
        yield Row("run-hello", "`jobc run hello.job`, whole process", ms(jobc), f"/bin/echo {ms(echo)}",
                  f"≤ 15 ms above (is {ms(jobc - echo)})", jobc - echo <= 0.015, seconds=jobc, peer_seconds=echo)

    def true_jobs(self):
        jobs = 200 if self.small else 5000
        n = self.parallel
        job = self.file("true.job", inputs.scatter_of_true(jobs))
        self.file("Makefile", inputs.makefile_of_true(jobs))
        self.file("build.ninja", inputs.ninja_of_true(jobs))
        run = (self.jobc, "run", f"--max-parallel={n}", job)
        commands = {
            "bare": (str(self.build / "bench" / "bare_spawn"), str(jobs), str(n)),
            "jobc": {"command": run, "before": self.fresh_state},
            "normal": {"command": run + ("--durability=normal",), "before": self.fresh_state},
        }
        if shutil.which("make"):
            commands["make"] = ("make", "-C", str(self.work), f"-j{n}")
        if shutil.which("ninja"):
            log = self.work / ".ninja_log"
            commands["ninja"] = {"command": ("ninja", "-C", str(self.work), f"-j{n}"),
                                 "before": lambda: log.unlink(missing_ok=True)}
        samples = self.rounds(self.count(3), **commands)
        rate = {name: jobs / median(each) for name, each in samples.items()}
        what = f"{jobs:,} × /bin/true, {n} at once"
        for peer, label, factor in (("make", f"make -j{n}", 1.0), ("ninja", f"ninja -j{n}", 1.0),
                                    ("bare", "bare posix_spawn and wait", 0.8)):
            if peer not in rate:
                yield Row(f"true-{peer}", what, per_second(rate["jobc"]), f"{peer} is not installed")
                continue
            ratio = rate["jobc"] / rate[peer]
            yield Row(f"true-{peer}", what, per_second(rate["jobc"]), f"{label} {per_second(rate[peer])}",
                      f"≥ {factor:.1f} × (is {ratio:.2f} ×)", ratio >= factor, rate=rate["jobc"], peer_rate=rate[peer])
        yield Row("true-normal", "the same with `--durability normal` (no wait for the disk)", per_second(rate["normal"]),
                  rate=rate["normal"])
        cpu = {name: statistics.median(s.cpu for s in each) / jobs for name, each in samples.items()}
        yield Row("true-cpu", "cpu time a job, that of /bin/true included", us(cpu["jobc"]),
                  f"bare posix_spawn and wait {us(cpu['bare'])}", cpu=cpu["jobc"], peer_cpu=cpu["bare"])

    def contract(self):
        """What each part of the run contract costs a job: the same jobs with one part more at each step."""
        jobs = 200 if self.small else 5000
        done = subprocess.run([str(self.build / "bench" / "spawn_rate"), str(jobs), str(self.parallel), str(self.count(5))],
                              cwd=self.work, check=True, capture_output=True, text=True)
        names, *lines = (line.split("\t") for line in done.stdout.splitlines())
        for number, line in enumerate(lines):
            step = dict(zip(names, line))
            rate, cpu, added = (float(step[name]) for name in ("jobs_per_second", "cpu_us", "added_cpu_us"))
            if int(step["adds_to"]) >= 0:
                what, cost = f"and {step['step']}", f"cpu time of a job {cpu:.0f} µs, {added:+.0f} µs"
            elif number == 0:
                what, cost = f"{jobs:,} × /bin/true, {self.parallel} at once: {step['step']}", f"cpu time of a job {cpu:.0f} µs"
            else:
                what, cost = step["step"], f"cpu time of a job {cpu:.1f} µs"
            yield Row(f"contract-{number}", what, per_second(rate), cost, rate=rate, cpu=cpu / 1e6, added_cpu=added / 1e6)

    def check_many(self):
        jobs = 1000 if self.small else 100_000
        one = self.file("jobs.job", inputs.declared_jobs(jobs))
        two = self.file("jobs2.job", inputs.declared_jobs(2 * jobs))
        samples = self.rounds(self.count(3), one=(self.jobc, "check", one), two=(self.jobc, "check", two))
        first, second = median(samples["one"]), median(samples["two"])
        peak = max(s.peak for s in samples["one"])
        what = f"`jobc check` of {jobs:,} declared jobs, {os.path.getsize(one) / 1e6:.1f} MB"
        yield Row("check-many", what, seconds(first), "", "≤ 3 s", None if self.small else first <= 3, seconds=first)
        yield Row("check-many-memory", "its peak memory", f"{peak / 1e9:.2f} GB", "", "≤ 1.5 GB",
                  None if self.small else peak <= 1.5e9, bytes=peak)
        yield Row("check-many-twice", "twice the jobs", seconds(second), f"once {seconds(first)}",
                  f"≤ 2.2 × the time (is {second / first:.2f} ×)", None if self.small else second <= 2.2 * first,
                  seconds=second, peer_seconds=first)

    def plan_range(self):
        count = 1000 if self.small else 1_000_000
        job = self.file("range.job", inputs.scatter_over_range(count))
        plan = str(self.work / "range.json")
        taken = median(self.rounds(self.count(5), jobc=(self.jobc, "plan", job, "-o", plan))["jobc"])
        size = os.path.getsize(plan)
        yield Row("plan-range", f"`jobc plan` of two scatters over range({count:,}), one to one", seconds(taken), "", "≤ 1 s",
                  taken <= 1, seconds=taken)
        yield Row("plan-range-size", "its plan file", f"{size:,} bytes", "", "≤ 1 MB", size <= 1e6, bytes=size)

    def plan_list(self):
        count = 1000 if self.small else 1_000_000
        job = self.file("list.job", inputs.scatter_over_list())
        names = self.file("names.json", inputs.names(count))
        plan = str(self.work / "list.json")
        taken = median(self.rounds(self.count(3), jobc=(self.jobc, "plan", job, "-p", f"@{names}", "-o", plan))["jobc"])
        size, least = os.path.getsize(plan), os.path.getsize(names)
        yield Row("plan-list", f"the same over a JSON list of {count:,} strings", seconds(taken), "", "≤ 5 s", taken <= 5,
                  seconds=taken)
        yield Row("plan-list-size", "its plan file", f"{size:,} bytes", f"the list {least:,} bytes",
                  f"≤ list + 10 KB (is + {size - least:,})", size <= least + 10_000, bytes=size, peer_bytes=least)

    def scheduler(self):
        counts = [1000, 10_000] if self.small else [1000, 10_000, 100_000, 1_000_000]
        # Small ones end too soon for the clock: the best of several, each in a process of its own.
        best = {}
        for count in counts:
            for _ in range(max(1, min(20, 1_000_000 // count))):
                done = subprocess.run([str(self.build / "bench" / "scheduler_scale"), "scatter", str(count)], check=True, capture_output=True, text=True)
                one = json.loads(done.stdout.splitlines()[-1])
                if count not in best or one["cpu_us_per_attempt"] < best[count]["cpu_us_per_attempt"]:
                    best[count] = one
        one = best[counts[-1]]
        yield Row("scheduler", f"the scheduler alone, {counts[-1]:,} instances", seconds(one["seconds"]), f"{one['us_per_attempt']:.2f} µs an attempt", "≤ 5 s",
                  None if self.small else one["seconds"] <= 5, **one)
        yield Row("scheduler-memory", "its peak memory", f"{one['peak_mib']} MiB", "", "≤ 512 MB", None if self.small else one["peak_mib"] * MiB <= 512e6)
        yield from self.scaling("scheduler-scaling", "its cpu time of an attempt", {count: best[count]["cpu_us_per_attempt"] for count in counts})

    def scaling(self, name, what, cost):
        """That the cost of an attempt does not depend on their number. Of cpu time: others on the machine matter less to it."""
        first, last = min(cost), max(cost)
        ratio = max(cost.values()) / cost[first]
        yield Row(name, f"{what}, {first:,} to {last:,} instances", " ".join(f"{one:.2f}" for one in cost.values()) + " µs", "", f"≤ 1.3 × the first (is {ratio:.2f} ×)",
                  None if self.small else ratio <= 1.3, ratio=ratio)

    def engine(self):
        """Engine, scheduler and journal with a backend that runs nothing, and going on from that journal."""
        counts = [1000] if self.small else [1000, 10_000, 100_000, 1_000_000]
        runs, last = {}, {}
        for count in counts:
            for _ in range(max(1, min(5, 100_000 // count))):
                shutil.rmtree(self.work / "engine", ignore_errors=True)
                done = subprocess.run([str(self.build / "bench" / "engine_scale"), str(self.work / "engine"), str(count)], check=True, capture_output=True, text=True)
                last = {one["figure"]: one for one in map(json.loads, done.stdout.splitlines())}
                runs[count] = min(runs.get(count, 1e9), last["run"]["cpu_us_per_attempt"])
        count, judged = counts[-1], not self.small
        run, resume, status = last["run"], last["resume"], last["status"]
        yield Row("engine", f"a run of {count:,} instances with the journal, virtual backend", seconds(run["seconds"]), f"{run['us_per_attempt']:.2f} µs an attempt, journal {run['journal_bytes'] / MiB:.0f} MiB",
                  "≤ 20 s", run["seconds"] <= 20 if judged else None, **run)
        yield Row("engine-memory", "its peak memory", f"{run['peak_mib']} MiB", "", "≤ 512 MB", run["peak_mib"] * MiB <= 512e6 if judged else None)
        yield from self.scaling("engine-scaling", "its cpu time of an attempt", runs)
        yield Row("resume", "going on from that journal", seconds(resume["seconds"]), f"peak {resume['peak_mib']} MiB", "≤ 3 s", resume["seconds"] <= 3 if judged else None, **resume)
        yield Row("status", "reading it for `jobc status`", seconds(status["seconds"]), f"peak {status['peak_mib']} MiB", **status)

    def output(self):
        """Jobs that write much: nothing is lost, and what jobc needs does not grow with it."""
        block = "0123456789abcdef" * 65536
        text = self.file("block.txt", block)
        counts = [10, 20] if self.small else [200, 2000]
        peaks = {}
        for count in counts:
            self.fresh_state()
            job = self.file(f"output{count}.job", f'edition = 1\njob noise {{ for i in range({count}) key "~{{i}}" run = ["cat", "{text}"] }}\n')
            sample = self.run(self.jobc, "run", job)
            peaks[count] = sample.peak
        state = str(self.work / ".jobc")
        lost = 0
        for i in range(0, counts[-1], max(1, counts[-1] // 50)):
            kept = subprocess.run([self.jobc, "logs", "--state", state, f'noise["{i}"]', "--stream", "stdout"], check=True, capture_output=True, text=True).stdout
            lost += kept != block
        packed = sum(path.stat().st_size for path in pathlib.Path(state).glob("runs/*/log.pack"))
        whole = lost == 0 and packed >= counts[-1] * len(block)
        yield Row("output", f"{counts[-1]:,} jobs that print 1 MiB each", f"{counts[-1] / sample.seconds:,.0f} MiB / s", "", "no byte lost", whole, seconds=sample.seconds, lost=lost)
        ratio = peaks[counts[-1]] / peaks[counts[0]]
        yield Row("output-memory", "its peak memory", f"{peaks[counts[-1]] / MiB:.0f} MiB", f"{counts[0]} jobs: {peaks[counts[0]] / MiB:.0f} MiB", f"≤ 1.5 × (is {ratio:.2f} ×)", ratio <= 1.5, bytes=peaks[counts[-1]])
        self.fresh_state()

    def s3(self):
        """Against Ceph's radosgw on this machine, its objects in memory: whole runs, and the phase `publish` of a run by its events."""
        sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "storage"))
        import radosgw
        size, objects, singles = (16 << 20, 200, 20) if self.small else (1 << 30, 10_000, 200)
        try:
            server = radosgw.Radosgw(self.work / "radosgw", memory=8 << 30)
        except radosgw.Missing as missing:
            print(f"bench: s3 is left out: {missing}", file=sys.stderr)
            return
        env = {**os.environ, **server.environment}
        curl = ["curl", "-sSf", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{radosgw.ACCESS_KEY}:{radosgw.SECRET_KEY}", "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
        with server:
            server.curl("PUT", "/bench")
            big = self.work / "big"
            with open(big, "wb") as out:
                for _ in range(size >> 20):
                    out.write(os.urandom(MiB))
            up = self.file("up.job", f'edition = 1\njob make {{ run = ["ln", "{big}", output.big] output {{ big: File = "big" }} }}\npublish "s3://bench/up" {{ "big" = make.big }}\n')
            down = self.file("down.job", 'edition = 1\njob read { input { big: File = "s3://bench/up/big" } run = ["true"] }\n')
            ups, downs, peer_ups, peer_downs, peak = [], [], [], [], 0
            # What is overwritten stays in the server's memory for hours, so there are three rounds at most.
            for _ in range(min(self.count(3), 3)):
                for peers, command in ((peer_ups, [*curl, "-T", str(big), f"{server.endpoint}/bench/curl"]), (peer_downs, [*curl, "-o", str(self.work / "got"), f"{server.endpoint}/bench/curl"])):
                    peers.append(self.run(*command))
                # Gone before the disk has it, as what jobc fetched is: nobody waits for the other's writes.
                (self.work / "got").unlink()
                self.fresh_state()
                sample, took = self.published(up, env)
                peak = max(peak, sample.peak)
                ups.append(took)
                self.fresh_state()
                sample = self.run(self.jobc, "run", down, env=env)
                peak = max(peak, sample.peak)
                downs.append(sample.seconds)
                self.fresh_state()
            for name, ours, peers in (("up", ups, peer_ups), ("down", downs, peer_downs)):
                took, peer = statistics.median(ours), median(peers)
                yield Row(f"s3-{name}", f"{size >> 20:,} MiB {'published to' if name == 'up' else 'read from'} S3, hashed and compared", f"{size / MiB / took:,.0f} MiB / s", f"curl {size / MiB / peer:,.0f} MiB / s",
                          f"≥ 0.7 × (is {peer / took:.2f} ×)", peer / took >= 0.7, seconds=took, peer_seconds=peer)
            yield Row("s3-memory", "peak memory of both", f"{peak / MiB:.0f} MiB", "", "≤ 64 MiB", peak <= 64 * MiB, bytes=peak)

            small = self.work / "small"
            small.mkdir()
            for i in range(objects):
                (small / f"{i}").write_bytes(os.urandom(1000))
            many_up = self.file("many_up.job", f'edition = 1\njob make {{ run = ["cp", "-rl", "{small}", output.all] output {{ all: Dir = "all" }} }}\npublish "s3://bench/many" {{ "all" = make.all }}\n')
            uris = ", ".join(f'"s3://bench/many/all/{i}"' for i in range(objects))
            many_down = self.file("many_down.job", f'edition = 1\njob read {{ input {{ all: List<File> = [{uris}] }} run = ["true"] }}\n')
            self.fresh_state()
            _, took_up = self.published(many_up, env)
            self.fresh_state()
            took_down = self.run(self.jobc, "run", many_down, env=env).seconds
            self.fresh_state()
            for name, took in (("up", took_up), ("down", took_down)):
                def words(i):
                    url = f"{server.endpoint}/bench/many/all/{i}"
                    return ["-T", str(small / f"{i}"), url] if name == "up" else ["-o", str(self.work / "got"), url]
                begin = time.perf_counter()
                for i in range(singles):
                    self.run(*curl, *words(i))
                single = (time.perf_counter() - begin) / singles * objects
                config = self.file("curl.conf", ("".join(f'{"upload-file" if name == "up" else "output"} = "{small / str(i) if name == "up" else self.work / "got"}"\nurl = "{server.endpoint}/bench/many/all/{i}"\n' for i in range(min(objects, 2000)))))
                kept = self.run(*curl, "-K", config).seconds * objects / min(objects, 2000)
                yield Row(f"s3-many-{name}", f"{objects:,} objects of 1 kB {'published' if name == 'up' else 'read as inputs, named by the plan and fetched'}", f"{objects / took:,.0f} / s", f"a curl for each {objects / single:,.0f} / s",
                          f"≥ 5 × (is {single / took:.1f} ×)", single / took >= 5, seconds=took, peer_seconds=single)
                yield Row(f"s3-many-{name}-kept", "", "", f"one curl, one connection {objects / kept:,.0f} / s", f"(is {kept / took:.1f} ×)", None, seconds=took, peer_seconds=kept)

    def published(self, job, env):
        """A run whose results go to a bucket: the sample of the whole, and the seconds of the phase `publish`."""
        events = self.work / "events"
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, str(events), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)]
        pid = os.posix_spawnp(self.jobc, [self.jobc, "run", "--json", job], env, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        phases = [json.loads(line) for line in events.read_text().splitlines() if '"phase"' in line]
        if status != 0:
            sys.exit(f"bench: publishing failed:\n{events.read_text()[-2000:]}")
        begin = next(i for i, one in enumerate(phases) if one["text"] == "publish")
        took = (phases[begin + 1]["time_ms"] - phases[begin]["time_ms"]) / 1000
        return Sample(took, usage), max(took, 0.001)

    def docker(self):
        """Containers, beside a bare loop of the same requests with curl, and one at a time beside one bare container each. With an
        engine of its own, as the tests have (needs root and Debian's docker.io)."""
        source = pathlib.Path(__file__).resolve().parent
        sys.path.insert(0, str(source.parent / "tests" / "services"))
        import daemons
        import images
        try:
            engine = daemons.Docker()
            engine.__enter__()
        except daemons.Missing as missing:
            yield Row("docker", "containers", "", f"left out: {missing}")
            return
        try:
            image = engine.load(images.busybox())
            os.environ["DOCKER_HOST"] = engine.host
            profile = 'profile here default { backend = docker { network = "none" } }\n'
            each, n = (2, 2) if self.small else (10, 4)
            job = self.file("containers.job", f'edition = 1\n{profile}job a {{ image = "{image}" for i in range({each * n}) key "~{{i}}" run = ["true"] }}\n')
            loop = f'for i in $(seq {n}); do sh {source}/bare_container.sh {engine.socket} {image} {each} & done; wait'
            samples = self.rounds(self.count(5), curl=("sh", "-c", loop),
                                  jobc={"command": (self.jobc, "run", f"--max-parallel={n}", job), "before": self.fresh_state})
            curl, jobc = (each * n / median(samples[name]) for name in ("curl", "jobc"))
            yield Row("docker", f"{each * n} containers with `true`, {n} at once", f"{jobc:.1f} / s", f"create, start, wait, remove with curl {curl:.1f} / s",
                      f"≥ 0.8 × (is {jobc / curl:.2f} ×)", jobc >= 0.8 * curl, rate=jobc, peer_rate=curl)
            pairs = 5 if self.small else 50
            bare = self.work / "bare.txt"
            text = "edition = 1\n" + profile.replace(" }\n", "".join(f" job bare{i} {{ backend = process }}" for i in range(pairs)) + " }\n")
            for i in range(pairs):
                after = f"after = [jobc{i - 1}] " if i else ""
                text += f'job bare{i} {{ {after}run = ["{sys.executable}", "{source}/bare_container.py", "{engine.socket}", "{image}", "{bare}"] }}\n'
                text += f'job jobc{i} {{ after = [bare{i}] image = "{image}" run = ["true"] }}\n'
            job = self.file("pairs.job", text)
            self.fresh_state()
            events = subprocess.run([self.jobc, "run", "--json", job], check=True, capture_output=True, text=True).stdout
            began, lives = {}, []
            for event in map(json.loads, events.splitlines()):
                if event.get("address", "").startswith("jobc"):
                    if event["event"] == "submitting":
                        began[event["address"]] = event["time_ms"]
                    elif event["event"] == "reaped":
                        lives.append(event["time_ms"] - began[event["address"]])
            bares = [float(line) for line in bare.read_text().split()]
            added = statistics.median(one - other for one, other in zip(lives, bares, strict=True))
            yield Row("docker-life", f"life of a container in a run, submit to reaped, median of {pairs} pairs", f"{statistics.median(lives):.0f} ms",
                      f"create, start, wait {statistics.median(bares):.0f} ms", f"≤ 10 ms added (is {added:.1f} ms)", added <= 10, lives=lives, peers=bares)
        finally:
            engine.remove()

    def cold_build(self):
        """Everything, from nothing, on two cores. On a busy machine the wall time says little; the cpu time halved is
        what two idle cores need."""
        source = pathlib.Path(__file__).resolve().parent.parent
        tree = self.work / "cold"
        subprocess.run(["cmake", "-S", str(source), "-B", str(tree), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                        "-DJOBC_BUILD_BENCH=ON"], check=True, stdout=subprocess.DEVNULL)
        sample = self.run("ninja", "-C", str(tree), "-j2")
        yield Row("build", "build of everything, cold, ninja -j2", seconds(sample.seconds),
                  f"cpu time / 2: {seconds(sample.cpu / 2)}", "≤ 8 min", sample.seconds <= 480, seconds=sample.seconds,
                  cpu=sample.cpu)

    figures = {"check-hello": check_hello, "run-hello": run_hello, "true": true_jobs, "contract": contract,
               "check-many": check_many, "plan-range": plan_range, "plan-list": plan_list, "scheduler": scheduler,
               "engine": engine, "output": output, "docker": docker, "s3": s3, "build": cold_build}
    not_by_default = {"s3", "build"}

    def all(self):
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        try:
            for name, figure in self.figures.items():
                if self.options.only and name not in self.options.only:
                    continue
                if not self.options.only and name in self.not_by_default:
                    continue
                print(f"bench: {name}", file=sys.stderr)
                yield from figure(self)
        finally:
            shutil.rmtree(self.work, ignore_errors=True)


def median(samples):
    return statistics.median(s.seconds for s in samples)


def ms(value):
    return f"{value * 1000:.2f} ms"


def us(value):
    return f"{value * 1e6:.0f} µs"


def seconds(value):
    return f"{value:.2f} s" if value < 120 else f"{value / 60:.1f} min"


def per_second(value):
    return f"{value:,.0f} / s"


def machine():
    model = "unknown cpu"
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"cpu": model, "cpus": len(os.sched_getaffinity(0)), "memory_gib": round(memory / (1 << 30)),
            "kernel": platform.release(), "load": os.getloadavg()[0]}


def table(rows):
    """As Markdown, aligned, so that it reads the same in a terminal and in docs/benchmarks.md."""
    lines = [["What", "jobc", "Beside it", "Target", "Met"]]
    for row in rows:
        lines.append([row.what, row.value, row.peer, row.target, "" if row.met is None else "yes" if row.met else "**no**"])
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=str(root / "build" / "release"), help="the build to measure (default: build/release)")
    parser.add_argument("--only", action="append", choices=list(Bench.figures), help="only this figure; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--rounds", type=int, help="rounds of each comparison instead of the usual number")
    parser.add_argument("--parallel", type=int, help="jobs at once, for jobc and its peers alike (default: the cpus)")
    parser.add_argument("--small", action="store_true", help="tiny inputs: tries the harness, measures nothing")
    options = parser.parse_args()
    bench = Bench(options)
    for needed in (bench.jobc,) if options.only == ["docker"] else (bench.jobc, str(bench.build / "bench" / "bare_spawn")):
        if not os.access(needed, os.X_OK):
            sys.exit(f"bench: there is no `{needed}`: type ./dev bench, which builds it")
    about = machine()
    rows = list(bench.all())
    if options.json:
        print(json.dumps({"date": datetime.date.today().isoformat(), "machine": about, "figures": [
            {"name": r.name, "what": r.what, "value": r.value, "peer": r.peer, "target": r.target, "met": r.met, **r.numbers}
            for r in rows]}, ensure_ascii=False, indent=1))
        return
    print(f"{datetime.date.today()}: {about['cpus']} × {about['cpu']}, {about['memory_gib']} GiB, Linux {about['kernel']}; "
          f"load average before: {about['load']:.2f}\n")
    print(table(rows))
    missed = [row for row in rows if row.met is False]
    print(f"\n{sum(row.met is True for row in rows)} targets met, {len(missed)} missed"
          + ("" if not missed else ": " + ", ".join(row.name for row in missed)))


if __name__ == "__main__":
    main()
