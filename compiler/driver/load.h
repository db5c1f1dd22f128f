// Opening the file that a command was given.
#pragma once

#include <optional>
#include <string>

#include "compiler/driver/command_line.h"
#include "compiler/source/source.h"

namespace jobc {

/// The source at `path` (`-` is stdin); otherwise a usage error (exit 2) that names similar files beside it.
struct LoadedRoot {
  std::optional<SourceId> source;
  std::optional<UsageError> error;
};
LoadedRoot LoadRoot(const std::string& path, SourceManager& sources);

/// Those that a command was given, else all in the working directory, opened before anything is done with the first: a mistyped
/// name is told at once, and alone. `command`: its name, for the help.
struct LoadedRoots {
  std::vector<std::string> files;
  std::vector<SourceId> sources;
  std::optional<UsageError> error;
};
LoadedRoots LoadRoots(std::vector<std::string> files, std::string_view command, SourceManager& sources);

/// The names of the regular files in `directory` that end in `suffix`, sorted. Empty if it cannot be read.
std::vector<std::string> FilesIn(const std::string& directory, std::string_view suffix);

}  // namespace jobc
