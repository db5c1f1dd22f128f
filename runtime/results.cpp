#include "runtime/results.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <unordered_set>

#include "ir/json.h"
#include "runtime/glob.h"
#include "runtime/process/os.h"
#include "runtime/value_parts.h"
#include "support/text_width.h"

namespace jobc {
namespace {

using ir::TypeKind;
using ir::Value;

/// For messages: one line, not longer than a person reads.
std::string Short(std::string_view text) {
  std::string visible = VisibleText(text.substr(0, 400));
  return FitToWidth(visible, 120);
}

std::optional<std::string> RealPath(const std::string& path) {
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) == nullptr) {
    return std::nullopt;
  }
  return std::string(resolved);
}

bool IsBelow(const std::string& path, const std::string& dir) {
  return path.size() > dir.size() && path.compare(0, dir.size(), dir) == 0 && path[dir.size()] == '/';
}

/// Rebuilds `value`, giving each File in it to `change` with its JSON pointer; stops at the first false.
bool MapFiles(const ir::TypeTable& types, const Value& value, ir::TypeId type, const std::string& pointer,
              const std::function<bool(ir::FileValue&, const std::string&)>& change, Value& out) {
  out = value;
  if (value.is_null() || !HoldsFiles(types, type)) {
    return true;
  }
  const ir::TypeNode& node = types[types.Bare(type)];
  switch (node.kind) {
    case TypeKind::Optional: return MapFiles(types, value, node.a, pointer, change, out);
    case TypeKind::File:
    case TypeKind::Dir: {
      ir::FileValue file = value.as_file();
      if (!change(file, pointer)) {
        return false;
      }
      out = Value::File(std::move(file));
      return true;
    }
    case TypeKind::List:
    case TypeKind::Pair:
    case TypeKind::Struct:
    case TypeKind::Map:
      return MapParts(types, value, type, [&](const Value& part, ir::TypeId inner, const std::string& name, Value& changed) {
        return MapFiles(types, part, inner, pointer + "/" + name, change, changed);
      }, out);
    default: return true;
  }
}

void ForEachFile(const Value& value, const std::function<void(const ir::FileValue&)>& visit) {
  switch (value.kind()) {
    case ir::ValueKind::File: visit(value.as_file()); break;
    case ir::ValueKind::List:
      for (const Value& element : value.as_list()) {
        ForEachFile(element, visit);
      }
      break;
    case ir::ValueKind::Map:
      for (const auto& [key, element] : value.as_map()) {
        ForEachFile(element, visit);
      }
      break;
    default: break;
  }
}

/// Makes one directory tree free of links: those that stay inside `base` become copies, others are refused.
class LinkResolver {
 public:
  explicit LinkResolver(const std::string& base) : base_(base) {}

  /// Empty: done. Else what is wrong. `shown` is the path for messages.
  std::string Resolve(const std::string& dir, const std::string& shown, int depth = 0) {
    if (depth > 200) {
      return fmt::format("`{}` is nested deeper than 200 directories", shown);
    }
    DIR* stream = opendir(dir.c_str());
    if (stream == nullptr) {
      return fmt::format("`{}` cannot be read: {}", shown, std::strerror(errno));
    }
    std::vector<std::string> names;
    while (dirent* entry = readdir(stream)) {
      if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
        names.emplace_back(entry->d_name);
      }
    }
    closedir(stream);
    for (const std::string& name : names) {
      std::string path = dir + "/" + name;
      std::string label = shown + "/" + name;
      struct stat info;
      if (lstat(path.c_str(), &info) != 0) {
        return fmt::format("`{}` cannot be read: {}", label, std::strerror(errno));
      }
      if (S_ISDIR(info.st_mode)) {
        if (std::string problem = Resolve(path, label, depth + 1); !problem.empty()) {
          return problem;
        }
      } else if (S_ISLNK(info.st_mode)) {
        auto target = RealPath(path);
        if (!target) {
          return fmt::format("`{}` is a link that leads nowhere", label);
        }
        if (!IsBelow(*target, base_)) {
          return fmt::format("`{}` is a link to `{}`, outside the output directory", label, *target);
        }
        if (IsBelow(path, *target) || path == *target) {
          return fmt::format("`{}` is a link to a directory it lies in", label);
        }
        std::string copy = dir + "/.jobc-copy";
        if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
          if (std::string problem = Resolve(*target, label, depth + 1); !problem.empty()) {
            return problem;
          }
        }
        if (auto copied = CopyTree(*target, copy, false); !copied) {
          return copied.error().message;
        }
        if (unlink(path.c_str()) != 0 || rename(copy.c_str(), path.c_str()) != 0) {
          return fmt::format("`{}` cannot be replaced by a copy: {}", label, std::strerror(errno));
        }
      } else if (!S_ISREG(info.st_mode)) {
        return fmt::format("`{}` is a special file (socket, pipe or device); only files, directories and links inside are captured", label);
      }
    }
    return "";
  }

 private:
  std::string base_;
};

class Collector {
 public:
  Collector(const ir::Plan& plan, uint32_t job, const CollectRequest& request, ir::Evaluator& evaluator, AttemptContext& context,
            const Masker& masker)
      : plan_(plan), types_(plan.program.types), job_(plan.jobs[job]), request_(request), evaluator_(evaluator), context_(context), masker_(masker) {}

  Collected Run() {
    if (!ReadResult()) {
      return std::move(out_);
    }
    out_.outputs.resize(job_.outputs.size());
    for (uint32_t i = 0; i < job_.outputs.size(); ++i) {
      const ir::Output& output = job_.outputs[i];
      bool done = false;
      switch (output.kind) {
        case ir::OutputKind::Path: done = TakePath(i, output); break;
        case ir::OutputKind::Glob: done = TakeGlob(i, output); break;
        case ir::OutputKind::Json: done = TakeJson(i, output); break;
        case ir::OutputKind::Expr: done = TakeExpr(i, output); break;
      }
      if (!done || !CheckSecrets(output, out_.outputs[i])) {
        out_.outputs.clear();
        out_.files.clear();
        return std::move(out_);
      }
      context_.SetOutputValue(i, out_.outputs[i]);
    }
    if (!SettleFiles()) {
      out_.outputs.clear();
      out_.files.clear();
      return std::move(out_);
    }
    out_.verdict = Succeeded();
    return std::move(out_);
  }

 private:
  /// For messages: nothing of a secret, then as much of the rest as fits.
  std::string Shown(std::string_view text) const { return masker_.empty() ? Short(text) : Short(masker_.Mask(text)); }

  bool FailSecret(std::string message) {
    out_.holds_secret = true;
    Fail(ir::ErrorKind::Schema, std::move(message));
    out_.verdict.code = "R953";
    return false;
  }

  bool Fail(ir::ErrorKind kind, std::string message) {
    out_.verdict = Failed(kind, masker_.Mask(message));
    out_.verdict.code = kind == ir::ErrorKind::OutputMissing ? "R952" : "R951";
    return false;
  }

  std::string Declared(const ir::Output& output) const { return fmt::format("output `{}: {}`", output.name, types_.Show(output.type)); }

  const std::string& Base() {
    if (base_.empty()) {
      base_ = RealPath(request_.output_dir).value_or(request_.output_dir);
    }
    return base_;
  }

  // -- The JSON result ---------------------------------------------------------

  bool ReadResult() {
    bool required = false;
    for (const ir::Output& output : job_.outputs) {
      if (output.kind == ir::OutputKind::Json) {
        required = required || !(output.fallback.valid() || types_.IsOptional(types_.Bare(output.type)));
      }
    }
    std::string path = request_.result_path;
    result_name_ = "$JOB_RESULT";
    process::UniqueFd fd(request_.no_result ? -1 : open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    int first_error = fd ? 0 : request_.no_result ? ENOENT : errno;
    std::string other = request_.output_dir + "/smartjob.json";
    if (!fd && !request_.no_result && (first_error == ENOENT || first_error == ENOTDIR)) {
      fd.Reset(open(other.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
      if (fd) {
        path = other;
        result_name_ = "smartjob.json";
      }
    } else if (fd && access(other.c_str(), F_OK) == 0) {
      out_.notes.push_back("both $JOB_RESULT and smartjob.json were written; smartjob.json is ignored");
    }
    if (!fd) {
      if (first_error != ENOENT && first_error != ENOTDIR) {
        return Fail(ir::ErrorKind::Schema, fmt::format("the JSON result ($JOB_RESULT) cannot be read: {}", std::strerror(first_error)));
      }
      if (required) {
        std::string names;
        for (const ir::Output& output : job_.outputs) {
          if (output.kind == ir::OutputKind::Json && !output.fallback.valid()) {
            names += (names.empty() ? "`" : ", `") + output.name + ": " + types_.Show(output.type) + "`";
          }
        }
        return Fail(ir::ErrorKind::OutputMissing, fmt::format("the job did not write its JSON result to $JOB_RESULT; expected an object with {}", names));
      }
      json_ = Value::Map({});
      return true;
    }
    struct stat info;
    if (fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
      return Fail(ir::ErrorKind::Schema, fmt::format("the JSON result {} is not a regular file", result_name_));
    }
    if (static_cast<uint64_t>(info.st_size) > ir::kMaxResultBytes) {
      return Fail(ir::ErrorKind::Schema, fmt::format("the JSON result {} is {}, more than {}; write large data to a file and declare it as output", result_name_,
                                                     ir::BytesForPeople(info.st_size), ir::BytesForPeople(ir::kMaxResultBytes)));
    }
    std::string text;
    char buffer[1 << 16];
    for (;;) {
      ssize_t count = read(fd.get(), buffer, sizeof buffer);
      if (count < 0 && errno == EINTR) {
        continue;
      }
      if (count < 0) {
        return Fail(ir::ErrorKind::Schema, fmt::format("the JSON result {} cannot be read: {}", result_name_, std::strerror(errno)));
      }
      if (count == 0) {
        break;
      }
      text.append(buffer, static_cast<size_t>(count));
      if (text.size() > ir::kMaxResultBytes) {
        return Fail(ir::ErrorKind::Schema, fmt::format("the JSON result {} is more than {}", result_name_, ir::BytesForPeople(ir::kMaxResultBytes)));
      }
    }
    if (masker_.Contains(text)) {
      return FailSecret(fmt::format("the JSON result {} contains a secret; results are kept and shown", result_name_));
    }
    auto json = ir::ParseJson(text);
    if (!json) {
      return Fail(ir::ErrorKind::Schema, fmt::format("the JSON result {} is not valid JSON: {}; it begins with `{}`", result_name_, json.error().message, Shown(std::string_view(text).substr(0, 60))));
    }
    if (json->kind() != ir::ValueKind::Map) {
      return Fail(ir::ErrorKind::Schema, fmt::format("the root of the JSON result {} must be an object, found `{}`", result_name_, Shown(ir::JsonText(*json))));
    }
    // The same secret may be spelled with other escapes, so what was decoded is searched too.
    if (HoldsSecret(*json)) {
      return FailSecret(fmt::format("the JSON result {} contains a secret; results are kept and shown", result_name_));
    }
    json_ = *json;
    out_.result = *std::move(json);
    return true;
  }

  bool TakeJson(uint32_t index, const ir::Output& output) {
    const Value* found = json_.Find(output.name);
    Value& value = out_.outputs[index];
    if (found == nullptr) {
      if (output.fallback.valid()) {
        if (!evaluator_.Evaluate(output.fallback, context_, value)) {
          return Fail(ir::ErrorKind::Schema, fmt::format("the default of {} failed: {}", Declared(output), evaluator_.fault().message));
        }
        return true;
      }
      if (types_.IsOptional(types_.Bare(output.type))) {
        value = Value();
        return true;
      }
      std::string keys;
      for (const auto& [key, unused] : json_.as_map()) {
        keys += (keys.empty() ? "`" : ", `") + Shown(key.as_string()) + "`";
      }
      return Fail(ir::ErrorKind::Schema, fmt::format("the JSON result {} has no key for {} (pointer /{}); it has {}", result_name_, Declared(output), output.name,
                                                     keys.empty() ? "no keys" : keys));
    }
    ir::DecodeOptions options;
    options.file_base = ir::FileBase::Job;
    auto decoded = ir::DecodeJson(*found, output.type, evaluator_, context_, options);
    if (!decoded) {
      std::string_view why = decoded.error().message;
      std::string pointer = "/" + output.name;
      std::string message = !why.empty() && why[0] == '/' ? pointer + std::string(why)
                                                          : pointer + ": " + std::string(why.substr(why.substr(0, 2) == ": " ? 2 : 0));
      return Fail(ir::ErrorKind::Schema, fmt::format("the JSON result {} does not fit {}: {}", result_name_, Declared(output), message));
    }
    return CaptureInside(output, *decoded, "/" + output.name, value);
  }

  // -- Files -------------------------------------------------------------------

  /// Files inside JSON and expression values: paths relative to $JOB_OUTPUT that must be there.
  bool CaptureInside(const ir::Output& output, const Value& value, const std::string& pointer, Value& out) {
    return MapFiles(types_, value, output.type, pointer, [&](ir::FileValue& file, const std::string& at) {
      if (file.row != UINT32_MAX || !file.location.empty() || file.base == ir::FileBase::Text) {
        file.location = context_.OnThisMachine(context_.world().Locate(file));
        return true;  // a file of the plan or of another job, passed on
      }
      std::string relative = file.path;
      if (file.base == ir::FileBase::Absolute) {
        if (!request_.seen_dir.empty() && IsBelow(file.path, request_.seen_dir)) {
          relative = file.path.substr(request_.seen_dir.size() + 1);
        } else if (IsBelow(file.path, request_.output_dir)) {
          relative = file.path.substr(request_.output_dir.size() + 1);
        } else if (IsBelow(file.path, Base())) {
          relative = file.path.substr(Base().size() + 1);
        } else {
          return Fail(ir::ErrorKind::OutputMissing, fmt::format("{}: {} names `{}`, outside the output directory", Declared(output), at, Shown(file.path)));
        }
      } else if (file.base == ir::FileBase::Uri) {
        return true;
      }
      return Capture(output, relative, file.is_dir, at, file) == Found::Yes ||
             (out_.verdict.message.empty() && Fail(ir::ErrorKind::OutputMissing, fmt::format("{}: {} names `{}`, which the job did not write", Declared(output), at, Shown(relative))));
    }, out);
  }

  enum class Found { Yes, No, Error };

  /// Checks one path and enters it into the list of files to publish. `at`: where the path stands, for messages.
  Found Capture(const ir::Output& output, const std::string& path, bool want_dir, const std::string& at, ir::FileValue& file) {
    auto refuse = [&](std::string why) {
      Fail(ir::ErrorKind::OutputMissing, fmt::format("{}{}: {}", Declared(output), at.empty() ? "" : " at " + at, why));
      return Found::Error;
    };
    auto relative = NormalRelativePath(path);
    if (!relative || relative->empty()) {
      return refuse(fmt::format("`{}` is not a path below the output directory", Shown(path)));
    }
    if (masker_.Contains(*relative)) {
      FailSecret(fmt::format("the file name `{}` of {} contains a secret", Shown(*relative), Declared(output)));
      return Found::Error;
    }
    std::string full = request_.output_dir + "/" + *relative;
    struct stat info;
    if (lstat(full.c_str(), &info) != 0) {
      if (errno == ENOENT || errno == ENOTDIR) {
        return Found::No;
      }
      return refuse(fmt::format("`{}` cannot be read: {}", Shown(*relative), std::strerror(errno)));
    }
    auto resolved = RealPath(full);
    if (!resolved) {
      return refuse(fmt::format("`{}` is a link that leads nowhere", Shown(*relative)));
    }
    bool copy = *resolved != Base() + "/" + *relative;
    if (copy && !IsBelow(*resolved, Base())) {
      return refuse(fmt::format("`{}` leads to `{}`, outside the output directory; copy the file instead of linking to it", Shown(*relative), *resolved));
    }
    if (stat(full.c_str(), &info) != 0) {
      return refuse(fmt::format("`{}` cannot be read: {}", Shown(*relative), std::strerror(errno)));
    }
    if (want_dir && !S_ISDIR(info.st_mode)) {
      return refuse(fmt::format("`{}` should be a directory but is a {}", Shown(*relative), S_ISREG(info.st_mode) ? "file" : "special file"));
    }
    if (!want_dir && !S_ISREG(info.st_mode)) {
      return refuse(fmt::format("`{}` should be a file but is a {}", Shown(*relative), S_ISDIR(info.st_mode) ? "directory" : "special file (socket, pipe or device)"));
    }
    out_.files.push_back({*relative, *resolved, want_dir, copy});
    file.base = ir::FileBase::Job;
    file.is_dir = want_dir;
    file.path = request_.place + "/" + *relative;
    file.location = request_.run_dir + "/" + file.path;
    file.size = want_dir ? 0 : static_cast<uint64_t>(info.st_size);
    return Found::Yes;
  }

  bool TakePath(uint32_t index, const ir::Output& output) {
    Value path;
    if (!evaluator_.Evaluate(output.value, context_, path)) {
      return Fail(ir::ErrorKind::Schema, fmt::format("the path of {} failed: {}", Declared(output), evaluator_.fault().message));
    }
    bool optional = types_.IsOptional(types_.Bare(output.type));
    bool want_dir = types_.kind(types_.NonNull(types_.Bare(output.type))) == TypeKind::Dir;
    ir::FileValue file;
    switch (Capture(output, path.as_string(), want_dir, "", file)) {
      case Found::Error: return false;
      case Found::No:
        if (optional) {
          out_.outputs[index] = Value();
          return true;
        }
        return Fail(ir::ErrorKind::OutputMissing, fmt::format("{}: the job did not write the {} `{}`{}", Declared(output), want_dir ? "directory" : "file",
                                                              Shown(path.as_string()), WhatIsThere()));
      case Found::Yes: break;
    }
    out_.outputs[index] = Value::File(std::move(file));
    return CheckRefinements(output, out_.outputs[index]);
  }

  bool TakeGlob(uint32_t index, const ir::Output& output) {
    Value pattern;
    if (!evaluator_.Evaluate(output.value, context_, pattern)) {
      return Fail(ir::ErrorKind::Schema, fmt::format("the glob of {} failed: {}", Declared(output), evaluator_.fault().message));
    }
    auto glob = Glob::Parse(pattern.as_string());
    if (!glob) {
      return Fail(ir::ErrorKind::OutputMissing, fmt::format("{}: {}", Declared(output), glob.error().message));
    }
    ir::TypeId bare = types_.NonNull(types_.Bare(output.type));
    bool want_dir = types_.kind(bare) == TypeKind::List && types_.kind(types_[bare].a) == TypeKind::Dir;
    auto found = glob->Find(request_.output_dir, want_dir);
    if (!found) {
      return Fail(ir::ErrorKind::OutputMissing, fmt::format("{}: {}", Declared(output), found.error().message));
    }
    int64_t count = static_cast<int64_t>(found->size());
    if ((output.glob_min && count < *output.glob_min) || (output.glob_max && count > *output.glob_max)) {
      bool few = output.glob_min && count < *output.glob_min;
      return Fail(ir::ErrorKind::OutputMissing, fmt::format("{}: `{}` matches {} {}, {} {} are needed{}", Declared(output), pattern.as_string(), count,
                                                            want_dir ? "directories" : "files", few ? "at least" : "at most", few ? *output.glob_min : *output.glob_max,
                                                            count == 0 ? WhatIsThere() : std::string()));
    }
    ir::ListValue files;
    files.reserve(found->size());
    for (const std::string& path : *found) {
      ir::FileValue file;
      if (Capture(output, path, want_dir, "", file) != Found::Yes) {
        return !out_.verdict.message.empty() ? false : Fail(ir::ErrorKind::OutputMissing, fmt::format("{}: `{}` vanished while it was captured", Declared(output), Shown(path)));
      }
      files.push_back(Value::File(std::move(file)));
    }
    out_.outputs[index] = Value::List(std::move(files));
    return CheckRefinements(output, out_.outputs[index]);
  }

  bool TakeExpr(uint32_t index, const ir::Output& output) {
    Value value;
    if (!evaluator_.Evaluate(output.value, context_, value)) {
      return Fail(ir::ErrorKind::Schema, fmt::format("{}: {}", Declared(output), evaluator_.fault().message));
    }
    if (!CheckRefinements(output, value)) {
      return false;
    }
    return CaptureInside(output, value, "/" + output.name, out_.outputs[index]);
  }

  bool CheckRefinements(const ir::Output& output, const Value& value) {
    if (types_.Bare(output.type) == output.type || evaluator_.CheckRefinements(value, output.type, output.name, context_)) {
      return true;
    }
    return Fail(ir::ErrorKind::Schema, fmt::format("{}: {}", Declared(output), evaluator_.fault().message));
  }

  bool HoldsSecret(const Value& value) const {
    if (masker_.empty()) {
      return false;
    }
    switch (value.kind()) {
      case ir::ValueKind::String: return masker_.Contains(value.as_string());
      case ir::ValueKind::List: return std::any_of(value.as_list().begin(), value.as_list().end(), [&](const Value& part) { return HoldsSecret(part); });
      case ir::ValueKind::Map:
        return std::any_of(value.as_map().begin(), value.as_map().end(), [&](const auto& part) { return HoldsSecret(part.first) || HoldsSecret(part.second); });
      default: return false;
    }
  }

  bool CheckSecrets(const ir::Output& output, const Value& value) {
    return !HoldsSecret(value) || FailSecret(fmt::format("{} contains a secret; outputs are kept and shown", Declared(output)));
  }

  /// `; the output directory has …`, to spot a misspelled name.
  std::string WhatIsThere() {
    DIR* dir = opendir(request_.output_dir.c_str());
    if (dir == nullptr) {
      return errno == ENOENT ? "; the job removed its output directory" : "";
    }
    std::vector<std::string> names;
    while (dirent* entry = readdir(dir)) {
      if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
        names.emplace_back(entry->d_name);
      }
    }
    closedir(dir);
    if (names.empty()) {
      return "; the output directory is empty";
    }
    std::sort(names.begin(), names.end());
    std::string text = "; the output directory has ";
    for (size_t i = 0; i < names.size() && i < 5; ++i) {
      text += (i == 0 ? "`" : ", `") + Shown(names[i]) + "`";
    }
    return text + (names.size() > 5 ? fmt::format(" and {} more", names.size() - 5) : "");
  }

  /// Each path once; nothing below a captured directory on its own; links inside directories become copies.
  bool SettleFiles() {
    auto& files = out_.files;
    std::sort(files.begin(), files.end(), [](const CapturedFile& x, const CapturedFile& y) { return x.path < y.path; });
    files.erase(std::unique(files.begin(), files.end(), [](const CapturedFile& x, const CapturedFile& y) { return x.path == y.path; }), files.end());
    std::unordered_set<std::string> dirs;
    for (const CapturedFile& file : files) {
      if (file.is_dir) {
        dirs.insert(file.path);
      }
    }
    std::vector<CapturedFile> kept;
    for (CapturedFile& file : files) {
      bool covered = false;
      for (size_t slash = file.path.find('/'); !dirs.empty() && slash != std::string::npos && !covered; slash = file.path.find('/', slash + 1)) {
        covered = dirs.count(file.path.substr(0, slash)) != 0;
      }
      if (!covered) {
        kept.push_back(std::move(file));
      }
    }
    files = std::move(kept);
    for (const CapturedFile& file : files) {
      if (file.is_dir) {
        if (std::string problem = LinkResolver(Base()).Resolve(file.source, file.path); !problem.empty()) {
          return Fail(ir::ErrorKind::OutputMissing, problem);
        }
      }
    }
    return true;
  }

  const ir::Plan& plan_;
  const ir::TypeTable& types_;
  const ir::Job& job_;
  const CollectRequest& request_;
  ir::Evaluator& evaluator_;
  AttemptContext& context_;
  const Masker& masker_;
  Collected out_;
  Value json_;
  std::string result_name_;
  std::string base_;
};

/// Files as paths relative to the run's directory.
class StoreContext : public ir::EvalContext {
 public:
  bool FileText(const ir::FileValue& file, std::string& out, ir::Fault&) override {
    if (file.base == ir::FileBase::Job) {
      out = file.path;
    } else {
      out = file.location.empty() ? file.path : file.location;
    }
    return true;
  }
};

}  // namespace

Collected CollectOutputs(const ir::Plan& plan, uint32_t job, const CollectRequest& request, ir::Evaluator& evaluator, AttemptContext& context,
                         const Masker& masker) {
  return Collector(plan, job, request, evaluator, context, masker).Run();
}

Result<void> CopyTree(const std::string& source, const std::string& target, bool sync, bool writable) {
  auto fail = [&](std::string_view doing, const std::string& path, int code) {
    return Error{fmt::format("cannot {} `{}`: {}", doing, path, std::strerror(code)), code};
  };
  process::UniqueFd in(open(source.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!in) {
    return fail("read", source, errno);
  }
  struct stat info;
  if (fstat(in.get(), &info) != 0) {
    return fail("read", source, errno);
  }
  if (S_ISDIR(info.st_mode)) {
    if (mkdir(target.c_str(), 0777) != 0) {
      return fail("create", target, errno);
    }
    DIR* dir = fdopendir(in.Release());
    std::vector<std::string> names;
    while (dirent* entry = readdir(dir)) {
      if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
        names.emplace_back(entry->d_name);
      }
    }
    closedir(dir);
    for (const std::string& name : names) {
      if (auto copied = CopyTree(source + "/" + name, target + "/" + name, sync, writable); !copied) {
        return copied;
      }
    }
    chmod(target.c_str(), info.st_mode & 07777);
    if (sync) {
      process::UniqueFd made(open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!made || fsync(made.get()) != 0) {
        return fail("write", target, errno);
      }
    }
    return {};
  }
  if (!S_ISREG(info.st_mode)) {
    return Error{fmt::format("`{}` is a special file and cannot be copied", source), EINVAL};
  }
  process::UniqueFd out(open(target.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!out) {
    return fail("create", target, errno);
  }
  bool by_kernel = true;
  for (;;) {
    ssize_t count = -1;
    if (by_kernel) {
      count = copy_file_range(in.get(), nullptr, out.get(), nullptr, size_t{1} << 30, 0);
      if (count < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM)) {
        by_kernel = false;
        continue;
      }
    } else {
      char buffer[1 << 16];
      count = read(in.get(), buffer, sizeof buffer);
      for (ssize_t done = 0; count > 0 && done < count;) {
        ssize_t written = write(out.get(), buffer + done, static_cast<size_t>(count - done));
        if (written < 0 && errno != EINTR) {
          return fail("write", target, errno);
        }
        done += std::max<ssize_t>(written, 0);
      }
    }
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return fail("copy to", target, errno);
    }
    if (count == 0) {
      break;
    }
  }
  if (fchmod(out.get(), (info.st_mode & 07777) | (writable ? S_IWUSR : 0)) != 0 || (sync && fsync(out.get()) != 0)) {
    return fail("write", target, errno);
  }
  return {};
}

Result<void> PublishCaptured(const Collected& collected, const CollectRequest& request) {
  if (collected.files.empty()) {
    return {};
  }
  std::string target = request.run_dir + "/" + request.place;
  size_t slash = target.rfind('/');
  // A leading dot: no instance's own place begins with one.
  std::string staging = target.substr(0, slash + 1) + "." + target.substr(slash + 1);
  auto fail = [&](std::string_view doing, const std::string& path, int code) {
    return Error{fmt::format("cannot {} `{}`: {}", doing, path, std::strerror(code)), code};
  };
  if (mkdir(staging.c_str(), 0777) != 0) {
    if (errno == ENOENT) {
      if (auto made = process::MakeDirectories(staging); !made) {
        return made;
      }
    } else if (errno == EEXIST) {
      if (auto removed = process::RemoveTree(staging); !removed) {
        return removed;
      }
      if (mkdir(staging.c_str(), 0777) != 0) {
        return fail("create", staging, errno);
      }
    } else {
      return fail("create", staging, errno);
    }
  }
  // Copies first: a link may lead to a file that is moved.
  for (bool copies : {true, false}) {
    for (const CapturedFile& file : collected.files) {
      if (file.copy != copies) {
        continue;
      }
      std::string place = staging + "/" + file.path;
      if (size_t last = file.path.rfind('/'); last != std::string::npos) {
        if (auto made = process::MakeDirectories(staging + "/" + file.path.substr(0, last)); !made) {
          return made;
        }
      }
      if (file.copy) {
        if (auto copied = CopyTree(file.source, place, false); !copied) {
          return copied;
        }
      } else if (rename(file.source.c_str(), place.c_str()) != 0) {
        if (errno != EXDEV) {
          return fail("publish", file.path, errno);
        }
        if (auto copied = CopyTree(file.source, place, false); !copied) {
          return copied;
        }
      }
    }
  }
  if (rename(staging.c_str(), target.c_str()) != 0) {
    if (errno != ENOTEMPTY && errno != EEXIST) {
      return fail("publish", target, errno);
    }
    if (auto removed = process::RemoveTree(target); !removed) {
      return removed;
    }
    if (rename(staging.c_str(), target.c_str()) != 0) {
      return fail("publish", target, errno);
    }
  }
  return {};
}

Result<std::string> EncodeOutputs(const ir::Plan& plan, uint32_t job, const ir::ListValue& outputs) {
  StoreContext context;
  const ir::Job& declared = plan.jobs[job];
  std::string out = "{";
  for (size_t i = 0; i < declared.outputs.size() && i < outputs.size(); ++i) {
    std::string value = "null";
    if (!outputs[i].is_null()) {
      auto encoded = ir::EncodeJson(outputs[i], declared.outputs[i].type, plan.program, context);
      if (!encoded) {
        return Error{fmt::format("output `{}` has no JSON form: {}", declared.outputs[i].name, encoded.error().message)};
      }
      value = *std::move(encoded);
    }
    out += (i == 0 ? "" : ",") + ir::JsonQuote(declared.outputs[i].name) + ":" + value;
  }
  return out + "}";
}

ir::Value PlaceFiles(const ir::Plan& plan, const ir::Value& value, ir::TypeId type, const std::string& run_dir) {
  ir::Value out;
  MapFiles(plan.program.types, value, type, "", [&](ir::FileValue& file, const std::string&) {
    if (file.base == ir::FileBase::Job) {
      file.location = run_dir + "/" + file.path;
      struct stat info;
      if (stat(file.location.c_str(), &info) == 0) {
        file.is_dir = S_ISDIR(info.st_mode);
        file.size = file.is_dir ? 0 : static_cast<uint64_t>(info.st_size);
      }
    }
    return true;
  }, out);
  return out;
}

Result<ir::ListValue> DecodeOutputs(const ir::Plan& plan, uint32_t job, std::string_view json, const std::string& run_dir, ir::Evaluator& evaluator,
                                    ir::EvalContext& context) {
  auto parsed = ir::ParseJson(json);
  if (!parsed) {
    return parsed.error();
  }
  const ir::Job& declared = plan.jobs[job];
  ir::ListValue outputs(declared.outputs.size());
  ir::DecodeOptions options;
  options.file_base = ir::FileBase::Job;
  for (size_t i = 0; i < declared.outputs.size(); ++i) {
    const Value* found = parsed->Find(declared.outputs[i].name);
    if (found == nullptr || found->is_null()) {
      continue;
    }
    auto decoded = ir::DecodeJson(*found, declared.outputs[i].type, evaluator, context, options);
    if (!decoded) {
      return Error{fmt::format("the stored output `{}` cannot be read: {}", declared.outputs[i].name, decoded.error().message)};
    }
    outputs[i] = PlaceFiles(plan, *decoded, declared.outputs[i].type, run_dir);
  }
  return outputs;
}

ir::Value MapOutputFiles(const ir::Plan& plan, const ir::Value& value, ir::TypeId type, const std::function<void(ir::FileValue&)>& change) {
  ir::Value out;
  MapFiles(plan.program.types, value, type, "", [&](ir::FileValue& file, const std::string&) {
    change(file);
    return true;
  }, out);
  return out;
}

std::string VerifyOutputs(const ir::ListValue& outputs) {
  std::string missing;
  for (const Value& output : outputs) {
    ForEachFile(output, [&](const ir::FileValue& file) {
      struct stat info;
      if (missing.empty() && file.base == ir::FileBase::Job &&
          (stat(file.location.c_str(), &info) != 0 || S_ISDIR(info.st_mode) != file.is_dir)) {
        missing = file.location;
      }
    });
  }
  return missing;
}

}  // namespace jobc
