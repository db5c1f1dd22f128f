// Command lines of Apptainer and Singularity from an AttemptLaunch, and what the tool means when it fails before the program
// began. Pure: no I/O.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/backend.h"
#include "support/result.h"

namespace jobc::apptainer {

/// What an attempt is started with, on this machine.
struct Command {
  std::vector<std::string> argv;
  /// NAME=value with a zero byte after each: what the program gets beside what the image sets. For a private file; neither
  /// the tool nor a shell ever sees it.
  std::string program_env;
};

/// `tool`: absolute. `init`: of this machine. `env_file`: `program_env`, as the job sees it. Error: what the tool cannot do.
Result<Command> MakeCommand(const AttemptLaunch& launch, const std::string& tool, const std::string& init, const std::string& env_file);

/// The image as the tool takes it: `debian:12` is `docker://debian:12`; URIs and files stay.
std::string ImageReference(const std::string& image);
/// `--bind a:b:ro`, or `--mount` where a path holds what `--bind` would cut it at.
std::vector<std::string> BindOptions(const Mount& mount);

/// The tool's own environment: what it needs of jobc's (`get` gives a variable), never what is meant for programs.
std::vector<std::string> ToolEnvironment(const std::vector<std::string>& all);

/// The tool ended with `exit_code` and nothing was reported by init: the program never began. `last_line` of stderr.
Verdict FailureOf(const std::string& tool, int exit_code, const std::string& image, std::string_view last_line);

}  // namespace jobc::apptainer
