#include "runtime/publish.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "ir/json.h"
#include "runtime/process/os.h"
#include "runtime/results.h"
#include "support/sha256.h"

namespace jobc {
namespace {

Error Fail(std::string_view doing, const std::string& path, int code) {
  return Error{fmt::format("cannot {} `{}`: {}", doing, path, std::strerror(code)), code};
}

/// All regular files of an item, as manifest rows.
Result<void> AddFiles(const std::string& source, const std::string& path, const std::string& producer, std::vector<PublishedFile>& out) {
  struct stat info;
  if (lstat(source.c_str(), &info) != 0) {
    return Fail("read", source, errno);
  }
  if (!S_ISDIR(info.st_mode)) {
    auto digest = Sha256OfFile(source);
    if (!digest) {
      return digest.error();
    }
    out.push_back({path, source, digest->size, digest->sha256, producer});
    return {};
  }
  DIR* dir = opendir(source.c_str());
  if (dir == nullptr) {
    return Fail("read", source, errno);
  }
  std::vector<std::string> names;
  while (dirent* entry = readdir(dir)) {
    if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
      names.emplace_back(entry->d_name);
    }
  }
  closedir(dir);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (auto added = AddFiles(source + "/" + name, path + "/" + name, producer, out); !added) {
      return added;
    }
  }
  return {};
}

Result<void> SyncDir(const std::string& path) {
  process::UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || fsync(fd.get()) != 0) {
    return Fail("sync", path, errno);
  }
  return {};
}

/// Makes the directories of `relative` below `base`; none of them may be a link, as it could lead anywhere.
Result<void> MakeParents(const std::string& base, std::string_view relative) {
  for (size_t slash = relative.find('/'); slash != std::string_view::npos; slash = relative.find('/', slash + 1)) {
    std::string dir = base + "/" + std::string(relative.substr(0, slash));
    struct stat info;
    if (lstat(dir.c_str(), &info) == 0) {
      if (S_ISDIR(info.st_mode)) {
        continue;
      }
      if (!S_ISLNK(info.st_mode)) {
        return Error{fmt::format("cannot publish below `{}`: it is not a directory", dir), ENOTDIR};
      }
      if (unlink(dir.c_str()) != 0) {
        return Fail("replace the link", dir, errno);
      }
    } else if (errno != ENOENT) {
      return Fail("read", dir, errno);
    }
    if (mkdir(dir.c_str(), 0777) != 0 && errno != EEXIST) {
      return Fail("create", dir, errno);
    }
  }
  return {};
}

/// Puts `staged` in place of `target`, whatever that is; what was there lands below `trash`.
Result<void> Replace(const std::string& staged, const std::string& target, const std::string& trash) {
  struct stat now;
  struct stat is;
  if (lstat(staged.c_str(), &is) != 0) {
    return Fail("read", staged, errno);
  }
  bool exists = lstat(target.c_str(), &now) == 0;
  if (!exists || (!S_ISDIR(now.st_mode) && !S_ISDIR(is.st_mode))) {
    return rename(staged.c_str(), target.c_str()) == 0 ? Result<void>() : Result<void>(Fail("publish", target, errno));
  }
  // A directory is involved: exchange the two, so that there is never nothing at the target.
  if (syscall(SYS_renameat2, AT_FDCWD, staged.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    return {};
  }
  if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP) {
    return Fail("publish", target, errno);
  }
  if (rename(target.c_str(), trash.c_str()) != 0) {
    return Fail("move aside", target, errno);
  }
  if (rename(staged.c_str(), target.c_str()) != 0) {
    int code = errno;
    rename(trash.c_str(), target.c_str());
    return Fail("publish", target, code);
  }
  return {};
}

/// Removes one file of an earlier publication and the directories that became empty; never leaves `destination`.
void Prune(const std::string& destination, std::string path) {
  // No part of the path may be a link: the file would not be the one that was published.
  for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    struct stat info;
    if (lstat((destination + "/" + path.substr(0, slash)).c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
      return;
    }
  }
  if (unlink((destination + "/" + path).c_str()) != 0) {
    return;
  }
  for (size_t slash = path.rfind('/'); slash != std::string::npos; slash = path.rfind('/')) {
    path.resize(slash);
    if (rmdir((destination + "/" + path).c_str()) != 0) {
      return;
    }
  }
}

/// The address back from a safe name; as it is where it was cut.
std::string UnsafeName(std::string_view name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '%' && i + 2 < name.size() && std::isxdigit(static_cast<unsigned char>(name[i + 1])) && std::isxdigit(static_cast<unsigned char>(name[i + 2]))) {
      out += static_cast<char>(std::strtol(std::string(name.substr(i + 1, 2)).c_str(), nullptr, 16));
      i += 2;
    } else {
      out += name[i];
    }
  }
  return out;
}

}  // namespace

Result<std::vector<PublishedFile>> FilesOfItems(const std::vector<PublishItem>& items) {
  std::vector<PublishedFile> files;
  for (const PublishItem& item : items) {
    struct stat info;
    if (!item.sha256.empty() && lstat(item.source.c_str(), &info) == 0 && S_ISREG(info.st_mode)) {
      files.push_back({item.path, item.source, static_cast<uint64_t>(info.st_size), item.sha256, item.producer});
      continue;
    }
    if (auto added = AddFiles(item.source, item.path, item.producer, files); !added) {
      return added.error();
    }
  }
  return files;
}

std::string ManifestText(const std::string& run_id, const std::vector<PublishedFile>& files) {
  std::string manifest = "{\n  \"schema\": \"jobc.publish/1\",\n  \"run\": " + ir::JsonQuote(run_id) + ",\n  \"files\": [";
  for (size_t i = 0; i < files.size(); ++i) {
    manifest += fmt::format("{}\n    {{\"path\": {}, \"size\": {}, \"sha256\": \"{}\", \"producer\": {}}}", i == 0 ? "" : ",", ir::JsonQuote(files[i].path),
                            files[i].size, files[i].sha256, ir::JsonQuote(files[i].producer));
  }
  return manifest + (files.empty() ? "]\n}\n" : "\n  ]\n}\n");
}

std::vector<std::string> PathsOfManifest(std::string_view text) {
  std::vector<std::string> paths;
  auto json = ir::ParseJson(text);
  const ir::Value* files = json && json->kind() == ir::ValueKind::Map ? json->Find("files") : nullptr;
  if (files == nullptr || files->kind() != ir::ValueKind::List) {
    return paths;
  }
  for (const ir::Value& row : files->as_list()) {
    const ir::Value* path = row.kind() == ir::ValueKind::Map ? row.Find("path") : nullptr;
    if (path != nullptr && path->kind() == ir::ValueKind::String && PublishPathProblem(path->as_string()).empty()) {
      paths.push_back(path->as_string());
    }
  }
  return paths;
}

std::string PublishPathProblem(std::string_view path) {
  if (path.empty()) {
    return "it is empty";
  }
  if (path[0] == '/') {
    return "it must be relative";
  }
  for (unsigned char c : path) {
    if (c < 0x20 || c == 0x7f) {
      return "it has a control character";
    }
  }
  for (size_t begin = 0; begin <= path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    std::string_view part = path.substr(begin, end - begin);
    if (part.empty()) {
      return "it has an empty part";
    }
    if (part == "." || part == "..") {
      return fmt::format("`{}` may not be a part of it", part);
    }
    begin = end + 1;
  }
  return path == kPublishManifest ? "that is the manifest's name" : "";
}

std::string PublishCollision(const std::vector<PublishItem>& items) {
  std::vector<const PublishItem*> sorted;
  for (const PublishItem& item : items) {
    sorted.push_back(&item);
  }
  std::sort(sorted.begin(), sorted.end(), [](const PublishItem* x, const PublishItem* y) { return x->path < y->path; });
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i - 1]->path == sorted[i]->path) {
      return fmt::format("{} and {} both publish `{}`", sorted[i - 1]->producer, sorted[i]->producer, sorted[i]->path);
    }
  }
  std::set<std::string_view> paths;
  for (const PublishItem* item : sorted) {
    paths.insert(item->path);
  }
  for (const PublishItem* item : sorted) {
    for (size_t slash = item->path.find('/'); slash != std::string::npos; slash = item->path.find('/', slash + 1)) {
      if (paths.count(std::string_view(item->path).substr(0, slash)) != 0) {
        return fmt::format("`{}` would lie inside `{}`, which is published as well", item->path, item->path.substr(0, slash));
      }
    }
  }
  return "";
}

Result<std::vector<PublishItem>> ItemsToPublish(const ir::Publish& publish, ir::Evaluator& evaluator, ir::EvalContext& context, const World& world) {
  std::vector<PublishItem> items;
  for (const ir::PublishEntry& entry : publish.entries) {
    ir::Value path;
    ir::Value value;
    if (!evaluator.Evaluate(entry.path, context, path) || !evaluator.Evaluate(entry.value, context, value)) {
      return Error{fmt::format("an entry of publish \"{}\" failed: {}", publish.destination, evaluator.fault().message)};
    }
    const std::string& key = path.as_string();
    const bool directory = !key.empty() && key.back() == '/';
    auto add = [&](const ir::Value& element) {
      if (element.is_null()) {
        return;
      }
      const ir::FileValue& file = element.as_file();
      PublishItem item;
      item.source = world.Locate(file);
      item.is_dir = file.is_dir;
      const size_t slash = file.path.rfind('/');
      item.path = directory ? key + (slash == std::string::npos ? file.path : file.path.substr(slash + 1)) : key;
      if (file.base == ir::FileBase::Job && file.path.rfind("outputs/", 0) == 0) {
        item.producer = UnsafeName(std::string_view(file.path).substr(8, file.path.find('/', 8) - 8));
      }
      items.push_back(std::move(item));
    };
    if (value.kind() == ir::ValueKind::List) {
      for (const ir::Value& element : value.as_list()) {
        add(element);
      }
    } else {
      add(value);
    }
  }
  for (const PublishItem& item : items) {
    if (std::string problem = PublishPathProblem(item.path); !problem.empty()) {
      return Error{fmt::format("cannot publish to `{}`: {}", item.path, problem)};
    }
  }
  if (std::string collision = PublishCollision(items); !collision.empty()) {
    return Error{fmt::format("publish \"{}\": {}", publish.destination, collision)};
  }
  return items;
}

Result<void> PublishFiles(const std::string& destination, const std::string& run_id, std::vector<PublishItem> items, bool prune) {
  for (const PublishItem& item : items) {
    if (std::string problem = PublishPathProblem(item.path); !problem.empty()) {
      return Error{fmt::format("cannot publish to `{}`: {}", item.path, problem), EINVAL};
    }
  }
  if (std::string collision = PublishCollision(items); !collision.empty()) {
    return Error{collision, EEXIST};
  }
  std::sort(items.begin(), items.end(), [](const PublishItem& x, const PublishItem& y) { return x.path < y.path; });
  if (auto made = process::MakeDirectories(destination); !made) {
    return made;
  }
  std::string staging = destination + "/.jobc-" + run_id;
  if (auto removed = process::RemoveTree(staging); !removed) {
    return removed;
  }
  if (mkdir(staging.c_str(), 0777) != 0) {
    return Fail("create", staging, errno);
  }
  auto carry_out = [&]() -> Result<void> {
    // Everything is copied and synced before anything at the destination is touched.
    std::vector<PublishedFile> files;
    for (size_t i = 0; i < items.size(); ++i) {
      std::string copy = fmt::format("{}/{}", staging, i);
      if (auto copied = CopyTree(items[i].source, copy, true, true); !copied) {
        return copied;
      }
      if (auto added = AddFiles(copy, items[i].path, items[i].producer, files); !added) {
        return added;
      }
    }
    const std::string manifest = ManifestText(run_id, files);
    std::string manifest_copy = staging + "/" + kPublishManifest;
    {
      process::UniqueFd fd(open(manifest_copy.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
      if (!fd || write(fd.get(), manifest.data(), manifest.size()) != static_cast<ssize_t>(manifest.size()) || fsync(fd.get()) != 0) {
        return Fail("write", manifest_copy, errno == 0 ? ENOSPC : errno);
      }
    }
    std::vector<std::string> before;
    if (prune) {
      before = PathsOfManifest(process::ReadFile(destination + "/" + kPublishManifest).value_or(""));
    }
    for (size_t i = 0; i < items.size(); ++i) {
      if (auto made = MakeParents(destination, items[i].path); !made) {
        return made;
      }
      if (auto replaced = Replace(fmt::format("{}/{}", staging, i), destination + "/" + items[i].path, fmt::format("{}/{}.old", staging, i)); !replaced) {
        return replaced;
      }
    }
    std::set<std::string> parents{destination};
    for (const PublishItem& item : items) {
      if (size_t slash = item.path.rfind('/'); slash != std::string::npos) {
        parents.insert(destination + "/" + item.path.substr(0, slash));
      }
    }
    for (const std::string& parent : parents) {
      if (auto synced = SyncDir(parent); !synced) {
        return synced;
      }
    }
    if (rename(manifest_copy.c_str(), (destination + "/" + kPublishManifest).c_str()) != 0) {
      return Fail("publish", destination + "/" + kPublishManifest, errno);
    }
    if (auto synced = SyncDir(destination); !synced) {
      return synced;
    }
    std::set<std::string> now;
    for (const PublishedFile& file : files) {
      now.insert(file.path);
    }
    for (const std::string& path : before) {
      if (now.count(path) == 0) {
        Prune(destination, path);
      }
    }
    return {};
  };
  auto done = carry_out();
  auto removed = process::RemoveTree(staging);
  return !done ? done : removed;
}

}  // namespace jobc
