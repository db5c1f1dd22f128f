#include "compiler/driver/load.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "compiler/diagnostics/diagnostics.h"

namespace jobc {

std::vector<std::string> FilesIn(const std::string& directory, std::string_view suffix) {
  std::vector<std::string> names;
  DIR* const open = opendir(directory.c_str());
  if (open == nullptr) return names;
  while (const dirent* entry = readdir(open)) {
    const std::string_view name = entry->d_name;
    if (name.starts_with('.') || !name.ends_with(suffix)) continue;
    struct stat info;
    if (stat((directory + "/" + entry->d_name).c_str(), &info) == 0 && S_ISREG(info.st_mode)) names.emplace_back(name);
  }
  closedir(open);
  std::sort(names.begin(), names.end());
  return names;
}

LoadedRoot LoadRoot(const std::string& path, SourceManager& sources) {
  Result<SourceId> loaded = path == "-" ? sources.Load("/dev/stdin", "<stdin>") : sources.Load(path);
  if (loaded.ok()) return {*loaded, {}};
  UsageError error{loaded.error().message, {}};
  const size_t slash = path.rfind('/');
  const std::string prefix = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  const std::string name = path.substr(prefix.size());
  if (loaded.error().code == ENOENT) {
    const std::vector<std::string> names = FilesIn(prefix.empty() ? "." : prefix, ".job");
    const std::string_view similar = DidYouMean(name, {names.begin(), names.end()});
    if (std::binary_search(names.begin(), names.end(), name + ".job")) {
      error.helps.push_back(fmt::format("did you mean `{}.job`?", path));
    } else if (!similar.empty()) {
      error.helps.push_back(fmt::format("did you mean `{}{}`?", prefix, similar));
    } else if (!names.empty()) {
      error.helps.push_back(fmt::format("there is `{}{}`", prefix, names.front()));
    }
  } else if (loaded.error().code == EISDIR) {
    const std::string directory = path.ends_with('/') ? path : path + "/";
    for (const std::string& each : FilesIn(directory, ".job")) error.helps.push_back(fmt::format("did you mean `{}{}`?", directory, each));
    if (error.helps.size() > 3) error.helps.resize(3);
  }
  return {{}, std::move(error)};
}

LoadedRoots LoadRoots(std::vector<std::string> files, std::string_view command, SourceManager& sources) {
  LoadedRoots roots;
  roots.files = files.empty() ? FilesIn(".", ".job") : std::move(files);
  if (roots.files.empty()) {
    roots.error = UsageError{"there is no .job file in the working directory", {fmt::format("name a file:  jobc {} FILE", command)}};
  }
  for (const std::string& file : roots.files) {
    LoadedRoot root = LoadRoot(file, sources);
    if (root.error) {
      roots.error = std::move(root.error);
      break;
    }
    roots.sources.push_back(*root.source);
  }
  return roots;
}

}  // namespace jobc
