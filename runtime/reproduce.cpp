#include "runtime/reproduce.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "ir/mounts.h"
#include "runtime/launch_options.h"
#include "runtime/state_dir.h"

namespace jobc {
namespace {

struct Variable {
  std::string name, value;
  bool secret = false;
};

/// What the job is told; secrets without their values.
std::vector<Variable> VariablesOf(const AttemptLaunch& launch, const ir::Job& job, const ir::TypeTable& types, const Masker& masker) {
  std::vector<Variable> out;
  for (const std::string& entry : launch.env) {
    const size_t equal = entry.find('=');
    Variable one{entry.substr(0, equal), entry.substr(std::min(equal, entry.size() - 1) + 1), masker.Contains(entry)};
    if (one.name == "JOB_SECRETS") continue;
    for (const ir::EnvEntry& declared : job.env) one.secret = one.secret || (declared.name == one.name && types.HasSecret(declared.type));
    out.push_back(std::move(one));
  }
  return out;
}

/// Each on a line of its own, as one command.
std::string Join(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : " \\\n  ") + part;
  return out;
}

std::vector<Mount> MountsOf(const AttemptLaunch& launch) {
  std::vector<Mount> out;
  for (const Mount& mount : launch.mounts) {
    if (mount.target != launch.places.SeenSecrets()) out.push_back(mount);
  }
  if (const ir::Value* mounts = Option(launch, "mounts")) {
    for (const ir::Mount& mount : ir::MountsOf(*mounts)) out.push_back({mount.source, mount.target, mount.read_only});
  }
  return out;
}

std::string EngineScript(const AttemptLaunch& launch, ir::BackendKind kind, const std::vector<Variable>& variables, const Masker& masker) {
  const bool podman = kind == ir::BackendKind::Podman;
  std::string tool(ir::BackendName(kind));
  if (const std::string host = TextOption(launch, "host"); !host.empty()) tool += (podman ? " --remote --url " : " -H ") + ShellQuote(host);
  if (const std::string context = TextOption(launch, "context"); !context.empty()) tool += " --context " + ShellQuote(context);
  std::vector<std::string> parts = {"exec " + tool + " run --rm -i $terminal"};
  const std::string workdir = TextOption(launch, "workdir");
  parts.push_back("-w " + ShellQuote(workdir.empty() ? launch.places.SeenOutput() : workdir));
  const std::string user = TextOption(launch, "user");
  // As the attempt itself: root's attempts run as the user of the image, those of others as who they are.
  parts.push_back(user.empty() ? "$user" : "--user " + ShellQuote(user));
  if (const std::string network = TextOption(launch, "network"); !network.empty()) parts.push_back("--network " + ShellQuote(network));
  if (launch.resources.memory) parts.push_back(fmt::format("--memory {0} --memory-swap {0}", *launch.resources.memory));
  if (launch.resources.cpu_milli) parts.push_back(fmt::format("--cpus {}", static_cast<double>(*launch.resources.cpu_milli) / 1000));
  if (launch.resources.gpu.value_or(0) > 0) parts.push_back(fmt::format("--gpus {}", *launch.resources.gpu));
  if (const ir::Value* pids = Option(launch, "pids"); pids != nullptr && pids->kind() == ir::ValueKind::Int) parts.push_back(fmt::format("--pids-limit {}", pids->as_int()));
  for (const Mount& mount : MountsOf(launch)) parts.push_back("-v " + ShellQuote(mount.source + ":" + mount.target + (mount.read_only ? ":ro" : "")));
  for (const Variable& one : variables) parts.push_back("-e " + (one.secret ? one.name : ShellQuote(one.name + "=" + one.value)));
  std::vector<std::string> instead = parts;
  instead.push_back("--entrypoint \"$program\" " + ShellQuote(launch.image) + " \"$@\"");
  size_t first = 0;
  if (!launch.image_args && !launch.argv.empty()) parts.push_back("--entrypoint " + ShellQuote(masker.Mask(launch.argv[first++])));
  std::string words = ShellQuote(launch.image);
  for (; first < launch.argv.size(); ++first) words += " " + ShellQuote(masker.Mask(launch.argv[first]));
  parts.push_back(words);
  return "terminal=\nif [ -t 0 ]; then terminal=-t; fi\n"
         "user=\nif [ \"$(id -u)\" != 0 ]" + std::string(podman ? " && false" : "") + "; then user=\"--user $(id -u):$(id -g)\"; fi\n"
         "if [ $# -gt 0 ]; then\n  program=$1\n  shift\n  " + Join(instead) + "\nfi\n" + Join(parts) + "\n";
}

std::string ApptainerScript(const AttemptLaunch& launch, const std::vector<Variable>& variables, const Masker& masker) {
  const std::string command = TextOption(launch, "command");
  std::string out = command.empty() ? "tool=$(command -v apptainer || command -v singularity) || { echo 'neither apptainer nor singularity is installed' >&2; exit 127; }\n"
                                    : "tool=" + ShellQuote(command) + "\n";
  out += "p=APPTAINERENV_\ncase $tool in *singularity) p=SINGULARITYENV_;; esac\n";
  std::vector<std::string> parts = {"exec env"};
  for (const Variable& one : variables) parts.push_back(one.secret ? fmt::format("\"${{p}}{0}=${0}\"", one.name) : fmt::format("\"$p\"{}", ShellQuote(one.name + "=" + one.value)));
  parts.push_back("\"$tool\" exec --contain --cleanenv --no-home");
  for (const Mount& mount : MountsOf(launch)) parts.push_back("--bind " + ShellQuote(mount.source + ":" + mount.target + (mount.read_only ? ":ro" : "")));
  const std::string workdir = TextOption(launch, "workdir");
  parts.push_back("--bind " + ShellQuote(launch.places.tmp_dir + ":/tmp") + " --pwd " + ShellQuote(workdir.empty() ? launch.places.SeenOutput() : workdir));
  if (launch.resources.gpu.value_or(0) > 0) parts.push_back("--nv");
  if (const ir::Value* options = Option(launch, "options"); options != nullptr && options->kind() == ir::ValueKind::List) {
    for (const ir::Value& option : options->as_list()) parts.push_back(ShellQuote(option.as_string()));
  }
  const std::string& image = launch.image;
  const bool stays = image.find("://") != std::string::npos || image.starts_with('/') || image.starts_with("./") || image.starts_with("../") || image.ends_with(".sif");
  parts.push_back(ShellQuote((stays ? "" : "docker://") + image));
  std::vector<std::string> instead = parts;
  instead.push_back("\"$@\"");
  std::string words = launch.image_args ? "/.singularity.d/runscript" : "";
  for (const std::string& word : launch.argv) words += (words.empty() ? "" : " ") + ShellQuote(masker.Mask(word));
  parts.push_back(words);
  return out + "if [ $# -gt 0 ]; then\n  " + Join(instead) + "\nfi\n" + Join(parts) + "\n";
}

/// For a shell; the attempt's own directories are new ones.
std::string Fresh(std::string_view text, const AttemptPlaces& places) {
  const std::pair<std::string_view, std::string_view> replaced[] = {{places.output_dir, "out"}, {places.tmp_dir, "tmp"}};
  for (const auto& [directory, name] : replaced) {
    for (size_t at = text.find(directory); !directory.empty() && at != std::string_view::npos; at = text.find(directory, at + 1)) {
      const size_t end = at + directory.size();
      if (end < text.size() && text[end] != '/') continue;  // a longer name
      return (at == 0 ? "" : Fresh(text.substr(0, at), places)) + "\"$jobc_at\"/" + std::string(name) + (end == text.size() ? "" : Fresh(text.substr(end), places));
    }
  }
  return ShellQuote(std::string(text));
}

std::string ProcessScript(const AttemptLaunch& launch, const std::vector<Variable>& variables, const Masker& masker) {
  std::string out = "jobc_at=$(mktemp -d \"${TMPDIR:-/tmp}/jobc-reproduce.XXXXXX\")\nmkdir \"$jobc_at/out\" \"$jobc_at/tmp\"\ncd \"$jobc_at/out\"\n";
  std::vector<std::string> parts = {"exec env -i"};
  for (const Variable& one : variables) {
    parts.push_back(one.name + "=" + (one.secret ? "\"$" + one.name + "\"" : one.name == "JOB_RESULT" ? "\"$jobc_at/result.json\"" : Fresh(one.value, launch.places)));
  }
  std::vector<std::string> instead = parts;
  instead.push_back("\"$@\"");
  std::string words;
  for (const std::string& word : launch.argv) words += (words.empty() ? "" : " ") + Fresh(masker.Mask(word), launch.places);
  parts.push_back(words + " < /dev/null");
  return out + "if [ $# -gt 0 ]; then\n  " + Join(instead) + "\nfi\n" + Join(parts) + "\n";
}

}  // namespace

std::string ReproduceScript(const AttemptLaunch& launch, const ir::Job& job, const ir::TypeTable& types, const Masker& masker) {
  const ir::BackendKind kind = job.backend.kind;
  const bool engine = kind == ir::BackendKind::Docker || kind == ir::BackendKind::Podman;
  if (launch.places.seen && (launch.image.empty() || (!engine && kind != ir::BackendKind::Apptainer))) {
    return "";
  }
  const std::vector<Variable> variables = VariablesOf(launch, job, types, masker);
  std::string out = fmt::format("#!/bin/sh\n# Runs attempt {} of {} again, {}. Words behind the name of this file run instead of its command:  sh FILE sh\n"
                                "# What it leaves in {} is for people only; jobc does not look at it.\nset -eu\n",
                                launch.number, masker.Mask(launch.address), launch.places.seen ? fmt::format("in {}", ir::BackendName(kind)) : "with its environment",
                                launch.places.seen ? "the directories of the attempt" : "its new directory");
  for (const Variable& one : variables) {
    if (one.secret) out += fmt::format(": \"${{{}:?set this variable to the secret first}}\"\nexport {}\n", one.name, one.name);
  }
  if (!job.secret_files.empty()) out += "# Its secret files are not here: " + (launch.places.seen ? "put them into a directory and mount that at " + launch.places.SeenSecrets() : "add JOB_SECRETS, the directory where they are, to its environment") + ".\n";
  if (!launch.places.seen) return out + ProcessScript(launch, variables, masker);
  out += "mkdir -p " + ShellQuote(launch.places.output_dir) + " " + ShellQuote(launch.places.tmp_dir) + "\n";
  out += engine ? EngineScript(launch, kind, variables, masker) : ApptainerScript(launch, variables, masker);
  return out;
}

}  // namespace jobc
