#include "backends/apptainer/command.h"

#include <fmt/format.h>

#include <algorithm>

#include "backends/container/init.h"
#include "ir/mounts.h"
#include "runtime/launch_options.h"

namespace jobc::apptainer {
namespace {

bool IsFile(std::string_view image) {
  return image.starts_with('/') || image.starts_with("./") || image.starts_with("../") || image.ends_with(".sif") || image.ends_with(".img") || image.ends_with(".sqsh");
}

/// A field of the CSV that `--mount` takes.
std::string Field(std::string_view key, std::string_view value) {
  std::string text = fmt::format("{}={}", key, value);
  if (text.find_first_of(",\"\n") == std::string::npos) {
    return text;
  }
  std::string quoted = "\"";
  for (char c : text) {
    quoted += c;
    if (c == '"') {
      quoted += c;
    }
  }
  return quoted + "\"";
}

bool ContainsAny(std::string_view text, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(), [&](std::string_view part) { return text.find(part) != std::string_view::npos; });
}

}  // namespace

std::string ImageReference(const std::string& image) {
  if (IsFile(image) || image.find("://") != std::string::npos || image.starts_with("docker-archive:") || image.starts_with("docker-daemon:") || image.starts_with("oci:") ||
      image.starts_with("oci-archive:")) {
    return image;
  }
  return "docker://" + image;
}

std::vector<std::string> BindOptions(const Mount& mount) {
  if ((mount.source + mount.target).find_first_of(":,\\\"\n") == std::string::npos) {
    return {"--bind", fmt::format("{}:{}{}", mount.source, mount.target, mount.read_only ? ":ro" : "")};
  }
  return {"--mount", fmt::format("type=bind,{},{}{}", Field("source", mount.source), Field("destination", mount.target), mount.read_only ? ",ro" : "")};
}

Result<Command> MakeCommand(const AttemptLaunch& launch, const std::string& tool, const std::string& init, const std::string& env_file) {
  JOBC_CHECK(launch.places.seen.has_value());
  if (launch.image.empty()) {
    return Error{"the job has no image"};
  }
  const SeenPlaces& seen = *launch.places.seen;
  Command out;
  // Nothing of this machine is seen but what is mounted, nothing of its environment is passed on.
  out.argv = {tool, "--silent", "exec", "--contain", "--cleanenv", "--no-home"};
  for (const Mount& mount : launch.mounts) {
    const std::vector<std::string> words = BindOptions(mount);
    out.argv.insert(out.argv.end(), words.begin(), words.end());
  }
  // Programs that do not know TMPDIR would fill the small memory that stands for /tmp otherwise.
  for (const Mount& mount : {Mount{launch.places.tmp_dir, "/tmp", false}, Mount{init, std::string(container::kInitTarget), true}}) {
    const std::vector<std::string> words = BindOptions(mount);
    out.argv.insert(out.argv.end(), words.begin(), words.end());
  }
  if (const ir::Value* mounts = Option(launch, "mounts")) {
    for (const ir::Mount& mount : ir::MountsOf(*mounts)) {
      if (mount.volume) {
        return Error{fmt::format("the mount `{}` is a volume, which only docker and podman have; name a directory", mount.name)};
      }
      const std::vector<std::string> words = BindOptions({mount.source, mount.target, mount.read_only});
      out.argv.insert(out.argv.end(), words.begin(), words.end());
    }
  }
  const ir::Value* workdir = Option(launch, "workdir");
  out.argv.insert(out.argv.end(), {"--pwd", workdir != nullptr && workdir->kind() == ir::ValueKind::String ? workdir->as_string() : seen.output_dir});
  if (launch.resources.gpu.value_or(0) > 0) {
    out.argv.push_back("--nv");
  }
  if (const ir::Value* options = Option(launch, "options"); options != nullptr && options->kind() == ir::ValueKind::List) {
    for (const ir::Value& option : options->as_list()) {
      out.argv.push_back(option.as_string());
    }
  }
  out.argv.push_back(ImageReference(launch.image));
  std::vector<std::string> program = launch.argv;
  if (launch.image_args) {
    program.insert(program.begin(), "/.singularity.d/runscript");  // what `run` starts: the image's ENTRYPOINT, with CMD if there are no words
  }
  std::vector<std::string> words = container::InitCommand(launch, program);
  words.insert(words.begin() + 1, {"--env", env_file});
  out.argv.insert(out.argv.end(), words.begin(), words.end());
  for (const std::string& entry : launch.env) {
    out.program_env += entry;
    out.program_env += '\0';
  }
  return out;
}

std::vector<std::string> ToolEnvironment(const std::vector<std::string>& all) {
  static constexpr std::string_view kNames[] = {"HOME", "USER", "LOGNAME", "LANG", "PATH", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "DOCKER_HOST", "SSL_CERT_FILE",
                                                "SSL_CERT_DIR", "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"};
  std::vector<std::string> out;
  bool path = false;
  for (const std::string& entry : all) {
    const std::string_view name = std::string_view(entry).substr(0, entry.find('='));
    // APPTAINER_CACHEDIR is for the tool, APPTAINERENV_X would become X in the container.
    const bool own = name.starts_with("APPTAINER_") || name.starts_with("SINGULARITY_");
    // These would change what is run and mounted behind the file's back.
    const bool hidden = name.ends_with("_BIND") || name.ends_with("_BINDPATH") || name.ends_with("_MOUNT") || name.ends_with("_ENV") || name.ends_with("_ENV_FILE");
    if ((own && !hidden) || std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames)) {
      out.push_back(entry);
      path = path || name == "PATH";
    }
  }
  if (!path) {
    out.push_back("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
  }
  return out;
}

Verdict FailureOf(const std::string& tool, int exit_code, const std::string& image, std::string_view last_line) {
  const std::string name = tool.substr(tool.rfind('/') + 1);
  const std::string said = last_line.empty() ? fmt::format("it ended with exit code {} and said nothing", exit_code) : fmt::format("its last words: {}", last_line);
  const bool of_image = ContainsAny(last_line, {"could not open image", "no such file or directory", "manifest unknown", "not found", "unauthorized", "denied", "unable to build", "unable to handle docker",
                                                "while making image", "failed to retrieve path", "image format not recognized", "invalid reference"});
  if (of_image) {
    return Failed(ir::ErrorKind::Image, fmt::format("{} cannot run the image `{}`: {}", name, image, said));
  }
  return Failed(ir::ErrorKind::Submit, fmt::format("{} did not start the program; {}", name, said));
}

}  // namespace jobc::apptainer
