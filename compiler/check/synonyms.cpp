#include "compiler/check/synonyms.h"

#include <string>

namespace jobc {
namespace {

constexpr std::string_view kRun = "run = [\"program\", \"argument\"]";
constexpr std::string_view kScript = "script = <<~SH";
constexpr std::string_view kAfter = "after = [other]";
constexpr std::string_view kWhen = "when = params.wanted";
constexpr std::string_view kEnv = "env { NAME = \"value\" }";
constexpr std::string_view kRetry = "retry { max_attempts = 3 }";
constexpr std::string_view kCpu = "resources { cpu = 2 }";
constexpr std::string_view kMemory = "resources { memory = 4GiB }";
constexpr std::string_view kGpu = "resources { gpu = 1 }";
constexpr std::string_view kDisk = "resources { disk = 20GiB }";
constexpr std::string_view kTime = "timeout { run = 1h }";
constexpr std::string_view kImage = "image = \"alpine\"";
constexpr std::string_view kFor = "for x in [1, 2] key x";
constexpr std::string_view kMatrix = "matrix { size = [1, 2] }";
constexpr std::string_view kIgnore = "on_error = ignore";
constexpr std::string_view kBackend = "backend = slurm";
constexpr std::string_view kPools = "pools = { licence = 1 }";
constexpr std::string_view kInput = "input { table: File = other.table }";
constexpr std::string_view kOutput = "output { table: File = \"table.csv\" }";

constexpr Synonym kAttributes[] = {
    {"command", kRun}, {"cmd", kRun}, {"cmds", kRun}, {"exec", kRun}, {"executable", kRun}, {"program", kRun}, {"args", kRun},
    {"argv", kRun}, {"arguments", kRun}, {"entrypoint", kRun},
    {"shell", kScript}, {"bash", kScript}, {"sh", kScript}, {"python", "script = <<~PY"}, {"steps", kScript}, {"wrapper", kRun},
    {"dependson", kAfter}, {"dependencies", kAfter}, {"dependency", kAfter}, {"deps", kAfter}, {"needs", kAfter},
    {"requires", kAfter}, {"depends", kAfter}, {"waitfor", kAfter}, {"upstream", kAfter}, {"runafter", kAfter},
    {"if", kWhen}, {"condition", kWhen}, {"onlyif", kWhen}, {"unless", kWhen}, {"enabled", kWhen},
    {"environment", kEnv}, {"envvars", kEnv}, {"variables", kEnv}, {"vars", kEnv},
    {"retries", kRetry}, {"attempts", kRetry}, {"maxretries", kRetry}, {"maxtries", kRetry}, {"retrycount", kRetry}, {"tries", kRetry},
    {"cpus", kCpu}, {"threads", kCpu}, {"cores", kCpu}, {"ncpus", kCpu}, {"cpuspertask", kCpu},
    {"mem", kMemory}, {"memmb", kMemory}, {"ram", kMemory}, {"memorylimit", kMemory}, {"gpus", kGpu}, {"accelerator", kGpu},
    {"diskmb", kDisk}, {"storage", kDisk},
    {"walltime", kTime}, {"time", kTime}, {"timelimit", kTime}, {"runtime", kTime}, {"maxtime", kTime}, {"deadline", kTime},
    {"container", kImage}, {"docker", kImage}, {"singularity", kImage}, {"apptainer", kImage},
    {"foreach", kFor}, {"scatter", kFor}, {"each", kFor}, {"withitems", kFor}, {"array", kFor}, {"strategy", kMatrix},
    {"errorstrategy", kIgnore}, {"onfailure", kIgnore}, {"continueonerror", kIgnore}, {"allowfailure", kIgnore}, {"ignoreerrors", kIgnore},
    {"executor", kBackend}, {"runner", kBackend}, {"queue", kBackend}, {"partition", kBackend}, {"runson", kBackend},
    {"concurrency", kPools}, {"semaphore", kPools}, {"maxforks", kPools},
    {"sources", kInput}, {"reads", kInput}, {"files", kInput}, {"targets", kOutput}, {"writes", kOutput}, {"artifacts", kOutput},
    {"tags", "labels { team = \"x\" }"}, {"annotations", "labels { team = \"x\" }"},
};

constexpr Synonym kFunctions[] = {
    {"int", "to_int"}, {"parseint", "to_int"}, {"integer", "to_int"}, {"toint", "to_int"}, {"float", "to_float"},
    {"double", "to_float"}, {"parsefloat", "to_float"}, {"tofloat", "to_float"}, {"number", "to_float"}, {"str", "to_string"},
    {"string", "to_string"}, {"tostring", "to_string"}, {"text", "to_string"}, {"repr", "json"}, {"tojson", "json"},
    {"jsonencode", "json"}, {"dumps", "json"}, {"fromjson", "parse_json"}, {"jsondecode", "parse_json"}, {"loads", "parse_json"},
    {"len", "length"}, {"count", "length"}, {"strip", "trim"}, {"chomp", "trim"}, {"lowercase", "lower"}, {"tolower", "lower"},
    {"uppercase", "upper"}, {"toupper", "upper"}, {"sorted", "sort"}, {"reversed", "reverse"}, {"startswith", "starts_with"},
    {"endswith", "ends_with"}, {"includes", "contains"}, {"has", "contains"}, {"haskey", "contains"}, {"sub", "replace"},
    {"gsub", "replace"}, {"sprintf", "format"}, {"printf", "format"}, {"concat", "join"}, {"splitlines", "lines"},
    {"readlines", "lines"}, {"read", "read_text"}, {"readfile", "read_text"}, {"load", "read_json"}, {"loadjson", "read_json"},
    {"filename", "basename"}, {"parent", "dirname"}, {"suffix", "extension"}, {"ext", "extension"}, {"basenamewithoutextension", "stem"},
    {"seq", "range"}, {"items", "entries"}, {"filterdefined", "compact"}, {"selectfirst", "coalesce"}, {"ifnull", "coalesce"},
    {"nvl", "coalesce"}, {"total", "sum"}, {"minimum", "min"}, {"maximum", "max"}, {"sha256sum", "sha256"}, {"hash", "sha256"},
    {"filesize", "size"}, {"getsize", "size"}, {"path", "file"}, {"zfill", "pad"}, {"rjust", "pad"},
    {"map", "[for n in [1, 2] : n + 1]"}, {"filter", "[for n in [1, 2] if n > 1 : n]"},
};

}  // namespace

std::span<const Synonym> AttributeSynonyms() { return kAttributes; }
std::span<const Synonym> FunctionSynonyms() { return kFunctions; }

std::string_view FindSynonym(std::span<const Synonym> synonyms, std::string_view word) {
  std::string plain;
  for (char c : word) {
    if (c == '_' || c == '-') continue;
    plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  for (const Synonym& synonym : synonyms) {
    if (synonym.word == plain) return synonym.here;
  }
  return {};
}

bool MeansCommand(std::string_view word) {
  const std::string_view here = FindSynonym(kAttributes, word);
  return here.starts_with("run =") || here.starts_with("script =");
}

}  // namespace jobc
