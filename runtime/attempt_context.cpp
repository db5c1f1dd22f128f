#include "runtime/attempt_context.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "ir/json.h"
#include "runtime/process/os.h"
#include "support/sha256.h"
#include "support/text_width.h"

namespace jobc {
namespace {

bool Fail(ir::Fault& fault, ir::FaultKind kind, std::string message) {
  fault.kind = kind;
  fault.message = std::move(message);
  return false;
}

/// Sum of the sizes of regular files below `path`; -1 if something cannot be read.
int64_t TreeSize(const std::string& path) {
  DIR* dir = opendir(path.c_str());
  if (dir == nullptr) {
    return -1;
  }
  int64_t sum = 0;
  while (dirent* entry = readdir(dir)) {
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) {
      continue;
    }
    std::string child = path + "/" + entry->d_name;
    struct stat info;
    if (lstat(child.c_str(), &info) != 0) {
      sum = -1;
      break;
    }
    if (S_ISREG(info.st_mode)) {
      sum += info.st_size;
    } else if (S_ISDIR(info.st_mode)) {
      int64_t below = TreeSize(child);
      if (below < 0) {
        sum = -1;
        break;
      }
      sum += below;
    }
  }
  closedir(dir);
  return sum;
}

bool SizeOf(const std::string& path, bool is_dir, ir::Value& out, ir::Fault& fault) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return Fail(fault, ir::FaultKind::BadArgument, fmt::format("cannot read the size of `{}`: {}", path, std::strerror(errno)));
  }
  int64_t size = is_dir || S_ISDIR(info.st_mode) ? TreeSize(path) : static_cast<int64_t>(info.st_size);
  if (size < 0) {
    return Fail(fault, ir::FaultKind::BadArgument, fmt::format("cannot read all of the directory `{}`", path));
  }
  out = ir::Value::Bytes(size);
  return true;
}

/// Where the file lies; what cannot be written is found missing by who reads it. Its directory is that of its content.
std::string PutText(const std::string& texts_dir, const ir::FileValue& file) {
  const std::string dir = texts_dir + "/" + file.sha256.substr(0, 32);
  const std::string path = dir + "/" + file.path;
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && static_cast<uint64_t>(info.st_size) == file.size) return path;
  if (auto made = process::MakeDirectories(dir); !made) return path;
  // Renamed into place: a jobc that is killed leaves nothing that looks like the whole file.
  const std::string temporary = dir + "/.new";
  {
    process::UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!fd) return path;
    for (size_t done = 0; done < file.text->size();) {
      const ssize_t count = write(fd.get(), file.text->data() + done, file.text->size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return path;
      done += static_cast<size_t>(count);
    }
    fchmod(fd.get(), 0444);
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) unlink(temporary.c_str());
  return path;
}

bool DigestOf(const std::string& path, ir::Value& out, ir::Fault& fault) {
  auto digest = Sha256OfFile(path);
  if (!digest) {
    return Fail(fault, ir::FaultKind::BadArgument, digest.error().message);
  }
  out = ir::Value::String(digest->sha256);
  return true;
}

}  // namespace

bool IsUtf8(std::string_view text, size_t* at) {
  for (size_t i = 0; i < text.size();) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    Utf8Char c = DecodeUtf8(text, i);
    if (!c.valid) {
      if (at != nullptr) {
        *at = i;
      }
      return false;
    }
    i += c.size;
  }
  return true;
}

std::optional<std::string> NormalRelativePath(std::string_view path) {
  if (path.empty() || path[0] == '/' || path.find('\0') != std::string_view::npos) {
    return std::nullopt;
  }
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin <= path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    std::string_view part = path.substr(begin, end - begin);
    if (part == "..") {
      if (parts.empty()) {
        return std::nullopt;
      }
      parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
    begin = end + 1;
  }
  std::string out;
  for (std::string_view part : parts) {
    out += (out.empty() ? "" : "/") + std::string(part);
  }
  return out;
}

// --- World ------------------------------------------------------------------

World::World(const ir::Plan& plan, Roots roots, std::vector<std::string> secrets)
    : plan_(plan), roots_(std::move(roots)), secrets_(std::move(secrets)) {
  for (const ir::FileRow& row : plan_.files) {
    if (row.base == ir::FileBase::Uri && (!row.etag.empty() || !row.version.empty())) {
      named_.emplace(row.path, &row);
    }
  }
}

const ir::FileRow* World::NamedRow(const std::string& uri) const {
  auto found = named_.find(uri);
  return found == named_.end() ? nullptr : found->second;
}

std::string World::Locate(const ir::FileValue& file) const {
  if (!file.location.empty()) {
    return file.location;
  }
  auto below = [](const std::string& dir, const std::string& path) {
    return path.empty() || path == "." ? dir : (dir == "/" ? "" : dir) + "/" + path;
  };
  switch (file.base) {
    case ir::FileBase::Source: return below(roots_.root, file.path);
    case ir::FileBase::Cwd: return below(roots_.cwd, file.path);
    case ir::FileBase::Absolute: return file.path;
    case ir::FileBase::Uri: {
      auto found = fetched_.find(file.path);
      return found == fetched_.end() ? std::string() : found->second;
    }
    case ir::FileBase::Job:
    case ir::FileBase::Output: return file.path;
    case ir::FileBase::Text: return texts_dir_.empty() ? "" : PutText(texts_dir_, file);
  }
  return file.path;
}

bool World::Secret(uint32_t index, ir::Value& out, ir::Fault& fault) {
  if (index >= secrets_.size()) {
    return Fail(fault, ir::FaultKind::Unavailable, "this secret was not read");
  }
  out = ir::Value::Secret(secrets_[index]);
  return true;
}

bool World::FileSize(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) {
  if (file.base == ir::FileBase::Text) {
    out = ir::Value::Bytes(static_cast<int64_t>(file.size));
    return true;
  }
  if (file.base == ir::FileBase::Uri) {
    // Before it is here: what its server said when the plan was made.
    if (const ir::FileRow* row = NamedRow(file.path)) {
      out = ir::Value::Bytes(static_cast<int64_t>(row->size));
      return true;
    }
  } else if (file.row < plan_.files.size()) {
    out = ir::Value::Bytes(static_cast<int64_t>(plan_.files[file.row].size));
    return true;
  }
  std::string path = Locate(file);
  if (path.empty()) {
    return Fail(fault, ir::FaultKind::Unavailable, fmt::format("the size of `{}` is not known on this machine", file.path));
  }
  return SizeOf(path, file.is_dir, out, fault);
}

bool World::FileSha256(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) {
  if (file.base == ir::FileBase::Text) {
    out = ir::Value::String(file.sha256);
    return true;
  }
  if (file.row < plan_.files.size() && !plan_.files[file.row].sha256.empty()) {
    out = ir::Value::String(plan_.files[file.row].sha256);
    return true;
  }
  std::string path = Locate(file);
  if (path.empty()) {
    return Fail(fault, ir::FaultKind::Unavailable, fmt::format("the content of `{}` is not known on this machine", file.path));
  }
  return DigestOf(path, out, fault);
}

bool World::FileText(const ir::FileValue& file, std::string& out, ir::Fault& fault) {
  out = Locate(file);
  if (out.empty()) {
    out = file.path;
  }
  return true;
}

// --- AttemptContext ---------------------------------------------------------

bool AttemptContext::Input(uint32_t index, ir::Value& out, ir::Fault& fault) {
  if (has_staged_ && index < staged_.size()) {
    out = staged_[index];
    return true;
  }
  return InstanceContext::Input(index, out, fault);
}

bool AttemptContext::OutputPath(uint32_t output, ir::Value& out, ir::Fault& fault) {
  const ir::Job& job = state_.plan().jobs[instance().job];
  if (output_dir_.empty() || paths_ == nullptr || output >= job.outputs.size()) {
    return Fail(fault, ir::FaultKind::Unavailable, "the output directory of this attempt is not known here");
  }
  const ir::Output& declared = job.outputs[output];
  ir::Value path;
  if (!paths_->Evaluate(declared.value, *this, path)) {
    fault = paths_->fault();
    return false;
  }
  auto relative = NormalRelativePath(path.as_string());
  if (!relative) {
    return Fail(fault, ir::FaultKind::BadArgument, fmt::format("the path `{}` of output `{}` leaves the output directory", path.as_string(), declared.name));
  }
  ir::FileValue file;
  file.base = ir::FileBase::Output;
  const ir::TypeTable& types = state_.plan().program.types;
  file.is_dir = types.kind(types.NonNull(types.Bare(declared.type))) == ir::TypeKind::Dir;
  file.path = *relative;
  file.location = relative->empty() ? seen_output_dir_ : seen_output_dir_ + "/" + *relative;
  out = ir::Value::File(std::move(file));
  return true;
}

bool AttemptContext::OutputValue(uint32_t output, ir::Value& out, ir::Fault& fault) {
  auto found = output_values_.find(output);
  if (found == output_values_.end()) {
    return Fail(fault, ir::FaultKind::Unavailable, "this output is not known yet");
  }
  out = found->second;
  return true;
}

bool AttemptContext::Stream(LogStream stream, ir::Value& out, ir::Fault& fault) {
  const char* name = stream == LogStream::Stdout ? "stdout" : "stderr";
  if (!ended_ || logs_ == nullptr) {
    return Fail(fault, ir::FaultKind::Unavailable, fmt::format("{}() is known only after the program has ended", name));
  }
  std::optional<ir::Value>& known = streams_[static_cast<size_t>(stream)];
  if (!known) {
    auto log = logs_->ReadAll(stream);
    if (!log) {
      return Fail(fault, ir::FaultKind::BadArgument, fmt::format("{}() cannot be read: {}", name, log.error().message));
    }
    if (log->truncated) {
      return Fail(fault, ir::FaultKind::TooLarge, fmt::format("{}() is not complete: the job wrote more than `log_limit` keeps; write to a file and declare it as output", name));
    }
    if (log->text.size() > ir::kMaxResultBytes) {
      return Fail(fault, ir::FaultKind::TooLarge, fmt::format("{}() is {}, more than {}; write to a file and declare it as output", name,
                                                              ir::BytesForPeople(static_cast<int64_t>(log->text.size())), ir::BytesForPeople(ir::kMaxResultBytes)));
    }
    size_t at = 0;
    if (!IsUtf8(log->text, &at)) {
      return Fail(fault, ir::FaultKind::BadArgument, fmt::format("{}() is not UTF-8 text: byte {:#04x} at offset {}", name, static_cast<unsigned char>(log->text[at]), at));
    }
    known = ir::Value::String(std::move(log->text));
  }
  out = *known;
  return true;
}

bool AttemptContext::Stdout(ir::Value& out, ir::Fault& fault) { return Stream(LogStream::Stdout, out, fault); }
bool AttemptContext::Stderr(ir::Value& out, ir::Fault& fault) { return Stream(LogStream::Stderr, out, fault); }

bool AttemptContext::ExitCode(ir::Value& out, ir::Fault& fault) {
  if (!ended_ || !exit_code_) {
    return Fail(fault, ir::FaultKind::Unavailable, "exit_code() is known only after the program has ended by itself");
  }
  out = ir::Value::Int(*exit_code_);
  return true;
}

bool AttemptContext::ReadText(const std::string& path, ir::Value& out, ir::Fault& fault) {
  if (!ended_ || output_dir_.empty()) {
    return Fail(fault, ir::FaultKind::Unavailable, fmt::format("read_text(\"{}\") works only after the program has ended", path));
  }
  auto relative = NormalRelativePath(path);
  if (!relative || relative->empty()) {
    return Fail(fault, ir::FaultKind::BadArgument, fmt::format("`{}` is not a path below the output directory", path));
  }
  std::string full = output_dir_ + "/" + *relative;
  char resolved[PATH_MAX];
  char base[PATH_MAX];
  if (realpath(full.c_str(), resolved) == nullptr) {
    return Fail(fault, ir::FaultKind::BadArgument, errno == ENOENT ? fmt::format("the job did not write `{}`", path)
                                                                   : fmt::format("cannot read `{}`: {}", path, std::strerror(errno)));
  }
  if (realpath(output_dir_.c_str(), base) == nullptr || std::string_view(resolved).substr(0, std::strlen(base) + 1) != std::string(base) + "/") {
    return Fail(fault, ir::FaultKind::BadArgument, fmt::format("`{}` is a link that leaves the output directory", path));
  }
  process::UniqueFd fd(open(resolved, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info;
  if (!fd || fstat(fd.get(), &info) != 0) {
    return Fail(fault, ir::FaultKind::BadArgument, fmt::format("cannot read `{}`: {}", path, std::strerror(errno)));
  }
  if (!S_ISREG(info.st_mode)) {
    return Fail(fault, ir::FaultKind::BadArgument, fmt::format("`{}` is not a regular file", path));
  }
  if (static_cast<uint64_t>(info.st_size) > ir::kMaxResultBytes) {
    return Fail(fault, ir::FaultKind::TooLarge, fmt::format("`{}` is {}, more than {}", path, ir::BytesForPeople(info.st_size), ir::BytesForPeople(ir::kMaxResultBytes)));
  }
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t done = 0;
  while (done < text.size()) {
    ssize_t count = read(fd.get(), text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return Fail(fault, ir::FaultKind::BadArgument, fmt::format("cannot read `{}`: {}", path, std::strerror(errno)));
    }
    if (count == 0) {
      break;
    }
    done += static_cast<size_t>(count);
  }
  text.resize(done);
  size_t at = 0;
  if (!IsUtf8(text, &at)) {
    return Fail(fault, ir::FaultKind::BadArgument, fmt::format("`{}` is not UTF-8 text: byte {:#04x} at offset {}", path, static_cast<unsigned char>(text[at]), at));
  }
  out = ir::Value::String(std::move(text));
  return true;
}

bool AttemptContext::ReadJson(const std::string& path, ir::Value& out, ir::Fault& fault) {
  ir::Value text;
  if (!ReadText(path, text, fault)) {
    return false;
  }
  auto json = ir::ParseJson(text.as_string());
  if (!json) {
    return Fail(fault, ir::FaultKind::BadArgument, fmt::format("`{}` is not valid JSON: {}", path, json.error().message));
  }
  out = *std::move(json);
  return true;
}

std::string AttemptContext::OnThisMachine(const std::string& seen) const {
  if (auto original = originals_.find(seen); original != originals_.end()) {
    return original->second;
  }
  if (!seen_output_dir_.empty() && seen.compare(0, seen_output_dir_.size(), seen_output_dir_) == 0 &&
      (seen.size() == seen_output_dir_.size() || seen[seen_output_dir_.size()] == '/')) {
    return output_dir_ + seen.substr(seen_output_dir_.size());
  }
  return seen;
}

ir::FileValue AttemptContext::Found(ir::FileValue file) const {
  if (!file.location.empty()) {
    file.location = OnThisMachine(file.location);
  }
  return file;
}

bool AttemptContext::FileSize(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) {
  if (file.row == UINT32_MAX && file.base == ir::FileBase::Output) {
    return SizeOf(OnThisMachine(file.location), file.is_dir, out, fault);
  }
  return world_context_.FileSize(Found(file), out, fault);
}

bool AttemptContext::FileSha256(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) {
  if (file.row == UINT32_MAX && file.base == ir::FileBase::Output) {
    return DigestOf(OnThisMachine(file.location), out, fault);
  }
  return world_context_.FileSha256(Found(file), out, fault);
}

bool AttemptContext::FileText(const ir::FileValue& file, std::string& out, ir::Fault& fault) {
  if (!world_context_.FileText(file, out, fault)) {
    return false;
  }
  if (auto staged = staged_paths_.find(out); staged != staged_paths_.end()) {
    out = staged->second;
  }
  return true;
}

}  // namespace jobc
