"""Inputs of the benchmarks: .job files and parameter files of any size, always the same bytes for the same size."""

import json

HELLO = """\
edition = 1
params { name: String(length(it) > 0) = "world" }
job hello {
  run = ["echo", "hello, ~{params.name}!"]
  output { greeting: String = trim(stdout()) }
}
export { greeting: String = hello.greeting }
"""

# One lane of a pipeline: about 600 bytes for four jobs, each with what real ones have.
LANE = """\
job extract{n} {{
{after}  resources {{ cpu = 1, memory = 512MiB }}
  run = ["etl", "extract", "--shard", {n}, output.raw]
  output {{ raw: File = "raw{n}.csv", rows: Int(0..) }}
}}
job clean{n} uses base {{
  input {{ raw: File = extract{n}.raw }}
  script = <<~SH
    grep -v '^#' ~{{input.raw}} > ~{{output.table}}
  SH
  output {{ table: File = "clean{n}.csv" }}
}}
job load{n} uses base {{
  when = extract{n}.rows > 0
  input {{ table: File = clean{n}.table }}
  run = ["etl", "load", "--day", params.day, input.table]
}}
check rows{n} {{ require extract{n}.rows < {limit} else "too many: ~{{extract{n}.rows}}" }}
"""


def declared_jobs(count):
    """`count` declared jobs in lanes of four; each lane waits for the one before, so the graph is as deep as it is long."""
    yield ('edition = 1\nparams { day: String(re"\\d{4}-\\d{2}-\\d{2}") = "2024-01-01" }\n'
           "template base {\n  timeout { run = 10m }\n  retry { max_attempts = 3, on = [network, preempted] }\n}\n")
    for n in range((count + 3) // 4):
        after = f"  after = [rows{n - 1}]\n" if n else ""
        yield LANE.format(n=n, after=after, limit=1_000_000 + n)


def scatter_over_range(count):
    """A scatter with a templated output path, and a consumer that takes from each the output of the same key."""
    return f"""\
edition = 1
job produce {{
  for i in range({count}) key i
  run = ["make-part", output.part]
  output {{ part: File = "part-~{{i}}.bin" }}
}}
job consume {{
  for i in range({count}) key i
  input {{ part: File = produce[i].part }}
  run = ["use-part", input.part]
}}
"""


def scatter_over_list():
    """The same over a list of names that comes as a parameter."""
    return """\
edition = 1
params {
  names: List<String>
  require unique(names) else "each name once"
}
job produce {
  for name in params.names key name
  run = ["make-part", name, output.part]
  output { part: File = "part-~{name}.bin" }
}
job consume {
  for name in params.names key name
  input { part: File = produce[name].part }
  run = ["use-part", input.part]
}
"""


def names(count):
    """A JSON object with the list of names: the parameter file of scatter_over_list()."""
    return json.dumps({"names": [f"sample-{n:07}" for n in range(count)]}, separators=(",", ":"))


def scatter_of_true(count):
    """`count` jobs that run /bin/true."""
    return f"""\
edition = 1
job noop {{
  for i in range({count}) key i
  run = ["/bin/true"]
}}
"""


def makefile_of_true(count):
    targets = [f"t{n}" for n in range(count)]
    # `exec`, an absolute path and no shell characters: make starts such a command without a shell.
    return ("all: " + " ".join(targets) + "\n.PHONY: all " + " ".join(targets) + "\n" +
            "".join(f"{t}:\n\t@/bin/true\n" for t in targets))


def ninja_of_true(count):
    return ("rule noop\n  command = /bin/true\n  description = noop\n" +
            "".join(f"build t{n}: noop\n" for n in range(count)) +
            "build all: phony " + " ".join(f"t{n}" for n in range(count)) + "\ndefault all\n")
