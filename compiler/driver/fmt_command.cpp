#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "compiler/driver/load.h"
#include "compiler/driver/report.h"
#include "compiler/format/diff.h"
#include "compiler/format/format.h"
#include "support/exit_code.h"
#include "support/write_file.h"

namespace jobc {
namespace {

/// The .job files below `directory`, sorted; what begins with a dot is left out, links to directories are not followed.
void FilesBelow(const std::string& directory, std::vector<std::string>& files) {
  const std::string prefix = directory.ends_with('/') ? directory : directory + "/";
  for (const std::string& name : FilesIn(directory, ".job")) files.push_back(prefix + name);
  std::vector<std::string> inner;
  if (DIR* const open = opendir(directory.c_str())) {
    while (const dirent* entry = readdir(open)) {
      struct stat info;
      if (entry->d_name[0] != '.' && lstat((prefix + entry->d_name).c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
        inner.push_back(prefix + entry->d_name);
      }
    }
    closedir(open);
  }
  std::sort(inner.begin(), inner.end());
  for (const std::string& each : inner) FilesBelow(each, files);
}

bool IsDirectory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

}  // namespace

int RunFmt(const Invocation& invocation, Terminal& terminal) {
  std::vector<std::string> files;
  for (const std::string& argument : invocation.arguments()) {
    if (argument != "-" && IsDirectory(argument)) {
      FilesBelow(argument, files);
    } else {
      files.push_back(argument);
    }
  }
  if (invocation.arguments().empty()) files = FilesIn(".", ".job");
  if (files.empty()) {
    const bool named = !invocation.arguments().empty();
    terminal.Err(RenderUsageError({fmt::format("there is no .job file in {}", named ? fmt::format("`{}`", invocation.arguments().front()) : "the working directory"),
                                   {"name a file or a directory:  jobc fmt FILE"}},
                                  terminal.err_color()));
    return kExitUsage;
  }
  const bool check = invocation.Has("--check");
  const bool show_diff = invocation.Has("--diff");

  // All files are opened before the first is changed: a mistyped name is reported at once, and alone.
  SourceManager sources;
  std::vector<SourceId> loaded;
  for (const std::string& file : files) {
    LoadedRoot root = LoadRoot(file, sources);
    if (root.error) {
      terminal.Err(RenderUsageError(*root.error, terminal.err_color()));
      return kExitUsage;
    }
    loaded.push_back(*root.source);
  }

  Diagnostics diags;
  nlohmann::ordered_json report = nlohmann::ordered_json::array();
  size_t different = 0;
  int code = kExitOk;
  for (size_t i = 0; i < files.size(); ++i) {
    const Source& source = sources[loaded[i]];
    const std::optional<std::string> text = Format(loaded[i], sources, diags);
    nlohmann::ordered_json row = {{"file", source.name}};
    if (!text) {
      row["state"] = "syntax error";
      report.push_back(std::move(row));
      continue;
    }
    const bool changed = *text != source.text;
    if (changed && !SameProgram(source.text, *text)) {
      terminal.Err(fmt::format("error: internal error: the new form of `{}` would not mean the same; it was not touched\n"
                               "  = help: please report this, with the file\n", source.name));
      row["state"] = "internal error";
      report.push_back(std::move(row));
      code = kExitInternal;
      continue;
    }
    different += changed;
    row["state"] = !changed ? "unchanged" : check || show_diff ? "different" : "formatted";
    const std::string diff = show_diff ? UnifiedDiff(source.text, *text, source.name, source.name + " (formatted)") : std::string();
    if (invocation.json()) {
      if (show_diff) row["diff"] = diff;
      if (files[i] == "-" && !check && !show_diff) row["text"] = *text;
    } else if (show_diff) {
      terminal.Out(diff);
    } else if (check) {
      if (changed) terminal.Out(source.name + "\n");
    } else if (files[i] == "-") {
      terminal.Out(*text);
    }
    if (changed && !check && !show_diff && files[i] != "-") {
      const Result<void> written = WriteNamedFile(files[i], *text);
      if (!written.ok()) {
        terminal.Err(fmt::format("error: {}\n", written.error().message));
        row["state"] = "not written";
        code = kExitEnvironment;
      } else if (!invocation.json()) {
        terminal.Err(fmt::format("formatted {}\n", source.name));
      }
    }
    report.push_back(std::move(row));
  }
  if (invocation.json()) {
    nlohmann::ordered_json root = {{"schema", "jobc.fmt/1"}, {"files", std::move(report)}};
    terminal.Out(root.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  const int faults = ReportDiagnostics(invocation, terminal, sources, diags);
  if (check && different > 0 && !invocation.json()) {
    terminal.Err(fmt::format("{} of {} file{} not formatted; `jobc fmt` with the same names does it\n", different, files.size(),
                             files.size() == 1 ? " is" : "s are"));
  }
  if (code != kExitOk) return code;
  if (faults != kExitOk) return faults;
  return check && different > 0 ? kExitFindings : kExitOk;
}

}  // namespace jobc
