#include "compiler/check/schema.h"

#include <algorithm>

#include "support/check.h"

namespace jobc::check {
namespace {

constexpr int64_t kMinute = 60'000;
constexpr int64_t kHour = 60 * kMinute;
constexpr int64_t kGiB = int64_t{1} << 30;

}  // namespace

const std::vector<Attribute>& Attributes() {
  using S = Shape;
  using M = MergeRule;
  using P = Phase;
  static const std::vector<Attribute> table = {
      // What a job is.
      {"for", S::Items, "List<T>, Map<K, V> or Range", P::S, kJob | kTemplate, M::Replace, false, "one instance for each element; of phase S it needs `max`"},
      {"matrix", S::Block, "lists", P::P, kJob | kTemplate, M::Replace, false, "axes: one instance for each combination; `exclude` removes some"},
      {"when", S::Attr, "Bool", P::S, kJob | kTemplate, M::Replace, false, "the instance is skipped and its outputs are null where this is false"},
      {"after", S::Attr, "List of jobs", P::S, kJob | kTemplate | kCheck, M::Replace, false, "order without data: `x` succeeded, `x.done` ended, `x.failed` failed"},
      {"input", S::Block, "fields", P::S, kJobLike | kDefaults, M::ByKey, true, "typed inputs; files are staged read-only at $JOB_INPUT/<name>/"},
      {"env", S::Block, "text, T?, Secret", P::S, kSettings, M::ByKey, true, "environment variables; null leaves one unset"},
      {"secret_files", S::Block, "Secret", P::S, kJobLike | kDefaults, M::ByKey, false, "files with mode 0600 in $JOB_SECRETS"},
      {"image", S::Attr, "String", P::P, kSettings, M::Replace, true, "container image, best with its digest"},
      {"resources", S::Block, "attributes", P::S, kSettings, M::ByKey, false, "what one attempt needs"},
      {"pools", S::Attr, "Map<pool, Int(1..)>", P::P, kSettings, M::Replace, false, "slots taken from pools while an attempt lives; of a `profile`, the slots of the pools"},
      {"priority", S::Attr, "Int(-100..100)", P::P, kSettings, M::Replace, false, "higher ones start first"},
      {"timeout", S::Block, "attributes", P::P, kSettings, M::ByKey, false, "time limits"},
      {"errors", S::Block, "arms", P::C, kSettings, M::LaterFirst, false, "maps exit codes, signals and log lines to error kinds; the first match wins"},
      {"retry", S::Block, "attributes", P::P, kSettings, M::ByKey, false, "what is tried again, how often, after which delay"},
      {"submit", S::Block, "attributes", P::P, kSettings, M::ByKey, false, "how often a submission that failed is sent again"},
      {"on_error", S::Attr, "drain, halt, continue or ignore", P::C, kJob | kCheck | kFinally | kTemplate | kDefaults | kProfile | kProfileJob, M::Replace, false, "what the run does when this fails"},
      {"run", S::Attr, "Args", P::S, kJobLike, M::Action, true, "the command, word by word; no shell is involved"},
      {"script", S::Attr, "heredoc SH, BASH, PY or R", P::S, kJobLike, M::Action, true, "a script; `~{x}` reaches it as a value, never as text"},
      {"image_args", S::Attr, "Args", P::S, kJobLike, M::Action, true, "arguments for the image's own ENTRYPOINT"},
      {"prologue", S::Attr, "heredoc SH or BASH", P::S, kSettings, M::Replace, true, "runs in the job's environment before it"},
      {"epilogue", S::Attr, "heredoc SH or BASH", P::S, kSettings, M::Replace, true, "always runs after it; sees $JOB_EXIT"},
      {"cache", S::Attr, "Bool", P::P, kJob | kTemplate | kDefaults, M::Replace, false, "a result with equal keys from any earlier run is used again"},
      {"cache_salt", S::Attr, "String", P::P, kJob | kTemplate | kDefaults, M::Replace, true, "changes the cache key; needed by `cache` where there is no image digest"},
      {"labels", S::Block, "String", P::P, kSettings, M::ByKey, false, "names for people and for backends"},
      {"output", S::Block, "fields", P::E, kJobLike, M::ByKey, true, "what the job leaves: files, keys of its JSON result, expressions"},
      {"backend", S::Attr, "backend { options }", P::P, kJobLike | kDefaults | kProfile | kProfileJob, M::ByKey, false, "where attempts run"},
      {"staging", S::Attr, "String", P::P, kSettings, M::Replace, false, "where attempts are laid down after their end: a folder, s3:// or gs://"},
      {"log_limit", S::Attr, "Bytes", P::P, kSettings, M::Replace, false, "kept of each of stdout and stderr (64MiB); the middle is dropped and marked"},
      {"grace", S::Attr, "Duration", P::P, kSettings, M::Replace, false, "between TERM and KILL (10s)"},
      {"inherit_env", S::Attr, "List<String>", P::C, kSettings, M::Replace, false, "variables of jobc's own environment that the job may see (this machine only)"},
      {"params", S::Block, "fields", P::S, kTemplate, M::ByKey, false, "what users of the template set; visible as `template.x`"},
      {"require", S::Items, "Bool", P::S, kCheck, M::ByKey, false, "must be true, else the check fails with the message"},
      // resources
      {"cpu", S::Attr, "Float(0.0..)", P::S, kResourcesBlock, M::Replace, false, "processors"},
      {"memory", S::Attr, "Bytes", P::S, kResourcesBlock, M::Replace, false, "main memory"},
      {"disk", S::Attr, "Bytes", P::S, kResourcesBlock, M::Replace, false, "disk space of the attempt"},
      {"gpu", S::Attr, "Int(0..)", P::S, kResourcesBlock, M::Replace, false, "graphics processors"},
      {"spot", S::Attr, "Bool", P::S, kResourcesBlock, M::Replace, false, "may run on machines that can be taken away"},
      // timeout
      {"queue", S::Attr, "Duration", P::P, kTimeout, M::Replace, false, "from submitted to started, of one attempt"},
      {"run", S::Attr, "Duration", P::P, kTimeout, M::Replace, false, "from started to ended, of one attempt"},
      {"total", S::Attr, "Duration", P::P, kTimeout, M::Replace, false, "from the first submission over all attempts"},
      {"idle", S::Attr, "Duration", P::P, kTimeout, M::Replace, false, "no byte on stdout or stderr for so long"},
      {"stage", S::Attr, "Duration", P::P, kTimeout, M::Replace, false, "until remote inputs are here, of one attempt (1h)"},
      {"collect", S::Attr, "Duration", P::P, kTimeout, M::Replace, false, "from ended until the outputs are kept, of one attempt (1h)"},
      // retry, submit
      {"max_attempts", S::Attr, "Int(1..)", P::C, kRetry | kSubmit, M::Replace, false, "counts the first try"},
      {"backoff", S::Attr, "constant(d), linear(d, max) or exponential(d, factor, max, jitter)", P::P, kRetry | kSubmit | kRetryOn, M::Replace, false, "delay before a retry"},
      {"on", S::Attr, "List of kinds, classes and names", P::C, kRetry, M::Replace, false, "what is tried again; without it, the class `system`"},
      {"on", S::Block, "attributes", P::A, kRetry, M::ByLabel, false, "a rule for one kind, class or name"},
      {"never", S::Attr, "List of kinds, classes and names", P::C, kRetry, M::Replace, false, "what is never tried again"},
      {"retries", S::Attr, "Int(0..)", P::C, kRetryOn, M::Replace, false, "how often this rule may grant a retry"},
      {"delay", S::Attr, "Duration", P::P, kRetryOn, M::Replace, false, "instead of the back-off"},
      {"resources", S::Block, "attributes", P::A, kRetryOn, M::ByKey, false, "of the next attempts; `prev` is the failed one"},
      {"timeout", S::Block, "attributes", P::A, kRetryOn, M::ByKey, false, "of the next attempts; `prev.timeout` is the failed one's"},
      // others
      {"slots", S::Attr, "Int(1..)", P::P, kPool, M::Replace, false, "how many slots the pool has"},
      {"prune", S::Attr, "Bool", P::C, kPublish, M::Replace, false, "removes files of the previous manifest that are no longer produced"},
      {"time", S::Attr, "Duration", P::C, kLimits, M::Replace, false, "ends the run as `halt`, exit code 13"},
      {"attempts", S::Attr, "Int(1..)", P::C, kLimits, M::Replace, false, "most attempts of a run"},
      {"instances", S::Attr, "Int(1..)", P::C, kLimits, M::Replace, false, "most instances of a run"},
      {"keep", S::Attr, "Duration", P::C, kLimits, M::Replace, false, "how long a run that ended is kept before `jobc gc` removes it"},
      {"limits", S::Block, "attributes", P::C, kProfile, M::ByKey, false, "limits of the whole run"},
      {"job", S::Block, "attributes", P::S, kProfile, M::ByLabel, false, "changes one job under this profile"},
      {"params", S::Block, "values", P::C, kTest, M::Replace, false, "parameters of the test"},
      {"profile", S::Attr, "name", P::C, kTest, M::Replace, false, "profile of the test"},
      {"mock", S::Block, "a job", P::C, kTest, M::ByLabel, false, "what an instance does instead of running"},
      {"expect", S::Block, "values", P::C, kTest, M::ByLabel, false, "what must come out"},
      {"fail", S::Attr, "error kind or name, or a list", P::C, kMock, M::Replace, false, "every attempt fails so; of a list, one attempt each"},
      {"exit", S::Attr, "Int(0..255)", P::C, kMock, M::Replace, false, "how the program ends; `errors` of the job says what that means"},
      {"stdout", S::Attr, "String", P::C, kMock, M::Replace, false, "what it writes there"},
      {"stderr", S::Attr, "String", P::C, kMock, M::Replace, false, "what it writes there"},
      {"takes", S::Attr, "Duration", P::C, kMock, M::Replace, false, "of the virtual clock, by an attempt"},
      {"result", S::Attr, "Json", P::C, kMock, M::Replace, false, "the JSON result"},
      {"files", S::Block, "texts", P::C, kMock, M::ByKey, false, "contents of files, by output or \"path\""},
      {"skip", S::Attr, "Bool", P::C, kMock, M::Replace, false, "the instance is skipped"},
      {"status", S::Attr, "run status", P::C, kExpect, M::Replace, false, "how the run must end"},
      {"export", S::Attr, "value", P::C, kExpect, M::ByLabel, false, "value of an export"},
      {"state", S::Attr, "state", P::C, kExpect, M::ByLabel, false, "final state of an instance, or of all instances of a job"},
      {"attempts", S::Attr, "Int", P::C, kExpect, M::ByLabel, false, "how many attempts an instance had"},
      {"error", S::Attr, "error kind or name", P::C, kExpect, M::ByLabel, false, "why an instance failed"},
      {"message", S::Attr, "String", P::C, kExpect, M::ByLabel, false, "a part of why an instance or a check failed"},
      {"outputs", S::Attr, "Json", P::C, kExpect, M::ByLabel, false, "outputs of an instance; those not listed are free"},
      {"published", S::Attr, "List<String>", P::C, kExpect, M::Replace, false, "all files that would be published, `destination/path`"},
      {"instances", S::Attr, "List<String>", P::C, kExpectPlan, M::Replace, false, "addresses of all instances of all jobs, in any order"},
      {"count", S::Attr, "Int", P::C, kExpectPlan, M::ByLabel, false, "how many instances a job has"},
      {"error", S::Attr, "code", P::C, kExpectPlan, M::Replace, false, "there is no plan, because of this: \"E304\""},
      {"argv", S::Attr, "List<String>", P::C, kExpectPlan, M::ByLabel, false, "command of an instance"},
  };
  return table;
}

const Attribute* FindAttribute(std::string_view name, uint32_t block) {
  for (const Attribute& attribute : Attributes()) {
    if ((attribute.blocks & block) != 0 && attribute.name == name) return &attribute;
  }
  return nullptr;
}

std::vector<std::string_view> AttributeNames(uint32_t block) {
  std::vector<std::string_view> names;
  for (const Attribute& attribute : Attributes()) {
    if ((attribute.blocks & block) != 0) names.push_back(attribute.name);
  }
  return names;
}

std::string_view BlockTitle(uint32_t block) {
  switch (block) {
    case kJob: return "a job";
    case kCheck: return "a check";
    case kFinally: return "a `finally` block";
    case kHook: return "a hook";
    case kTemplate: return "a template";
    case kDefaults: return "`defaults`";
    case kProfile: return "a profile";
    case kProfileJob: return "a job of a profile";
    case kResourcesBlock: return "`resources`";
    case kTimeout: return "`timeout`";
    case kRetry: return "`retry`";
    case kRetryOn: return "a rule of `retry`";
    case kSubmit: return "`submit`";
    case kPool: return "a pool";
    case kPublish: return "`publish`";
    case kLimits: return "`limits`";
    case kTest: return "a test";
    case kMock: return "`mock`";
    case kExpect: return "`expect`";
    case kExpectPlan: return "`expect plan`";
    case kMatrix: return "`matrix`";
    default: return "this block";
  }
}

const std::vector<TopLevel>& TopLevelBlocks() {
  static const std::vector<TopLevel> table = {
      {"edition", "edition = 1", "the edition of the language; the first item"},
      {"import", "import \"PATH\" as NAME", "another source"},
      {"params", "params { NAME: TYPE = DEFAULT }", "what the user of the file can set"},
      {"enum", "enum NAME { CASE, CASE }", "a closed set of words"},
      {"struct", "struct NAME { FIELD: TYPE }", "a record"},
      {"open", "open struct NAME { FIELD: TYPE }", "a record that ignores unknown JSON keys"},
      {"type", "type NAME = TYPE", "another name of a type"},
      {"let", "let NAME = EXPR", "a constant"},
      {"fn", "fn NAME(PARAM: TYPE) -> TYPE = EXPR", "a pure function"},
      {"secret", "secret NAME = env(\"VAR\")", "a value nobody may see"},
      {"pool", "pool NAME { slots = N }", "a limit on concurrency over jobs"},
      {"template", "template NAME { … }", "settings that jobs share with `uses`"},
      {"defaults", "defaults { … }", "settings of all jobs of the file"},
      {"job", "job NAME { … }", "something to run"},
      {"check", "check NAME { require EXPR else \"…\" }", "conditions that jobc evaluates itself"},
      {"finally", "finally NAME { … }", "runs after everything ended, also after failure"},
      {"hook", "hook on EVENT { … }", "runs on an event of the run: start, success, failure, finish"},
      {"module", "module NAME = IMPORT { PARAM = EXPR }", "an imported file, instantiated"},
      {"export", "export { NAME: TYPE = EXPR }", "the typed result of the run"},
      {"publish", "publish \"DIR\" { \"PATH\" = FILE }", "files put at a place people look"},
      {"profile", "profile NAME { … }", "where and how jobs run"},
      {"limits", "limits { time = 2d }", "limits of the whole run"},
      {"test", "test \"NAME\" { … }", "what jobs do instead of running, and what must come of it"},
  };
  return table;
}

const BackendSchema& SchemaOf(ir::BackendKind kind) {
  static const BackendOption max_parallel{"max_parallel", "Int(1..)", false, "", "most attempts at the same time"};
  static const BackendOption path{"path", "String", false, "", "PATH of the attempts"};
  static const BackendOption mounts{"mounts", "mounts", false, "", "directories that the jobs see beside their own places, by name"};
  static const BackendOption workdir{"workdir", "Path", false, "", "directory of the image or of a mount in which programs start, instead of $JOB_OUTPUT"};
  static const BackendOption network{"network", "String", false, "", "`none`, `host`, `bridge`, or a network of the engine"};
  static const BackendOption user{"user", R"(String(re"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?"))", false, "",
                                  "user, or user:group, inside the container"};
  static const BackendOption pull{"pull", "String", false, "always missing never", "when images are pulled"};
  static const BackendOption init{"init", "Bool", false, "", "jobc's own init as PID 1 (true)"};
  static const BackendOption pids{"pids", "Int(1..)", false, "", "most processes and threads of an attempt"};
  static const BackendOption limits{"limits", "String", false, "required available",
                                    "what becomes of limits that the engine cannot enforce: `required` (so by itself) ends the run before it starts, `available` does without them"};
  static const BackendOption gpus{"gpus", "List<String>", false, "", "the graphics processors that attempts may get, as the engine names them"};
  static const std::vector<BackendSchema> table = {
      {ir::BackendKind::Process, "processes on this machine",
       {.built = true, .takes_image = false, .image_args = false, .inherit_env = true, .schemes = "https s3", .error_kinds = "oom"},
       {max_parallel, path,
        {"oversubscribe", "Bool", false, "", "run jobs that claim more than the machine has"}}},
      {ir::BackendKind::Docker, "containers of a Docker engine",
       {.built = true, .needs_image = true, .inherit_env = true, .schemes = "https s3", .error_kinds = "oom image node_lost network quota auth"},
       {max_parallel,
        {"host", "String", false, "", "socket or URL of the engine, instead of DOCKER_HOST"},
        {"context", "String", false, "", "Docker context"},
        network, user, pull, init, pids, limits, gpus, mounts, workdir,
        {"options", "Json", false, "", "more members of the Engine API's HostConfig"}}},
      {ir::BackendKind::Podman, "containers of Podman",
       {.built = true, .needs_image = true, .inherit_env = true, .schemes = "https s3", .error_kinds = "oom image node_lost network quota auth"},
       {max_parallel,
        {"host", "String", false, "", "socket of the service"},
        network, user, pull, init, pids, limits, gpus, mounts, workdir,
        {"options", "Json", false, "", "more members of the API's HostConfig"}}},
      {ir::BackendKind::Apptainer, "Apptainer or Singularity images, as processes on this machine",
       {.built = true, .needs_image = true, .inherit_env = true, .schemes = "https s3", .error_kinds = "oom image"},
       {max_parallel,
        {"command", "String", false, "apptainer singularity", "the tool"},
        mounts, workdir,
        {"options", "List<String>", false, "", "more options of `exec`"}}},
      {ir::BackendKind::Ssh, "processes on hosts reached by ssh",
       {.takes_image = false, .image_args = false, .error_kinds = "oom node_lost network auth"},
       {max_parallel, path,
        {"hosts", "List<String>", true, "", "hosts, as ssh knows them"},
        {"workdir", "String", false, "", "directory on the hosts"},
        {"slots", "Int(1..)", false, "", "attempts on one host at the same time"},
        {"options", "List<String>", false, "", "more options of ssh"}}},
      {ir::BackendKind::Slurm, "jobs of a Slurm cluster",
       {.image_args = false, .error_kinds = "oom node_lost preempted queue_timeout quota image"},
       {max_parallel, path,
        {"account", "String", false, "", "--account"},
        {"partition", "String", false, "", "--partition"},
        {"qos", "String", false, "", "--qos"},
        {"workdir", "String", false, "", "directory that this machine and the nodes share"},
        {"cluster", "String", false, "", "--clusters"},
        {"poll", "Duration", false, "", "between two status queries"},
        {"options", "List<String>", false, "", "more options of sbatch"}}},
      {ir::BackendKind::Sge, "jobs of a Grid Engine cluster",
       {.image_args = false, .gpu = false, .disk = false, .grace = false, .error_kinds = "oom node_lost queue_timeout quota image"},
       {max_parallel, path,
        {"queue", "String", false, "", "-q"},
        {"project", "String", false, "", "-P"},
        {"parallel_environment", "String", false, "", "-pe, for more than one cpu"},
        {"memory_resource", "String", false, "", "complex that takes the memory (h_vmem)"},
        {"workdir", "String", false, "", "directory that this machine and the nodes share"},
        {"poll", "Duration", false, "", "between two status queries"},
        {"options", "List<String>", false, "", "more options of qsub"}}},
      {ir::BackendKind::Flux, "jobs of a Flux instance",
       {.image_args = false, .disk = false, .error_kinds = "node_lost queue_timeout quota image"},
       {max_parallel, path,
        {"uri", "String", false, "", "the instance, instead of FLUX_URI"},
        {"queue", "String", false, "", "queue"},
        {"bank", "String", false, "", "bank"},
        {"workdir", "String", false, "", "directory that this machine and the nodes share"},
        {"options", "List<String>", false, "", "more options of flux submit"}}},
      {ir::BackendKind::CloudRun, "Google Cloud Run jobs",
       {.needs_image = true, .secrets = SecretCarriers::Stored, .needs_staging = true, .schemes = "gs", .disk = false, .grace = false,
        .error_kinds = "oom node_lost network image quota auth queue_timeout", .max_cpu = 8, .max_memory = 32 * kGiB, .max_gpu = 1, .max_run_ms = 168 * kHour},
       {max_parallel,
        {"project", "String", false, "", "project"},
        {"region", "String", false, "", "region"},
        {"service_account", "String", false, "", "identity of the attempts"},
        {"network", "String", false, "", "VPC network"},
        {"subnetwork", "String", false, "", "VPC subnetwork"},
        {"sidecars", "List<String>", false, "", "images of side containers"},
        {"poll", "Duration", false, "", "between two status queries"},
        {"extra", "Json", false, "", "more members of the API's job"}}},
      {ir::BackendKind::CloudBatch, "Google Cloud Batch jobs",
       {.secrets = SecretCarriers::Stored, .secret_files = false, .needs_staging = true, .schemes = "gs", .spot = true, .grace = false,
        .error_kinds = "oom node_lost preempted network image quota auth queue_timeout", .max_run_ms = 14 * 24 * kHour},
       {max_parallel,
        {"project", "String", false, "", "project"},
        {"region", "String", false, "", "region"},
        {"machine", "String", false, "", "machine type"},
        {"accelerator", "String", false, "", "accelerator type"},
        {"service_account", "String", false, "", "identity of the attempts"},
        {"boot_disk", "Bytes", false, "", "size of the boot disk"},
        {"boot_disk_type", "String", false, "", "type of the boot disk"},
        {"network", "String", false, "", "VPC network"},
        {"subnetwork", "String", false, "", "VPC subnetwork"},
        {"poll", "Duration", false, "", "between two status queries"},
        {"extra", "Json", false, "", "more members of the API's job"}}},
      {ir::BackendKind::Vertex, "Google Vertex AI custom jobs",
       {.cwd = false, .needs_image = true, .secrets = SecretCarriers::None, .secret_files = false, .needs_staging = true, .schemes = "gs", .spot = true,
        .grace = false, .error_kinds = "oom node_lost preempted network image quota auth queue_timeout", .max_run_ms = 7 * 24 * kHour},
       {max_parallel,
        {"project", "String", false, "", "project"},
        {"region", "String", false, "", "region"},
        {"machine", "String", false, "", "machine type"},
        {"accelerator", "String", false, "", "accelerator type; their number is `resources.gpu`"},
        {"service_account", "String", false, "", "identity of the attempts"},
        {"boot_disk", "Bytes", false, "", "size of the boot disk"},
        {"boot_disk_type", "String", false, "", "type of the boot disk"},
        {"poll", "Duration", false, "", "between two status queries"},
        {"extra", "Json", false, "", "more members of the API's job"}}},
  };
  const BackendSchema& schema = table[static_cast<size_t>(kind)];
  JOBC_CHECK(schema.kind == kind);
  return schema;
}

bool NamesImageContent(std::string_view image) {
  if (image.find("@sha256:") != std::string_view::npos) return true;
  if (image.starts_with("sha256:")) image.remove_prefix(7);
  return image.size() == 64 && image.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool CanStage(const Capabilities& can, std::string_view uri, bool is_dir) {
  const std::string_view scheme = uri.substr(0, uri.find("://"));
  if (is_dir && !can.needs_staging && scheme != "s3") return false;
  for (std::string_view rest = can.schemes; !rest.empty();) {
    const size_t end = std::min(rest.find(' '), rest.size());
    if (rest.substr(0, end) == scheme) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

}  // namespace jobc::check
