#include "ir/mounts.h"

#include <fmt/format.h>

#include "ir/evaluate.h"

namespace jobc::ir {
namespace {

/// Where the places of an attempt are seen in a container.
constexpr std::string_view kOwnPlaces = "/jobc";

bool IsNameOf(std::string_view name, std::string_view more) {
  if (name.empty()) return false;
  for (const char c : name) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && more.find(c) == std::string_view::npos) return false;
  }
  return true;
}

bool HasControl(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return true;
  }
  return false;
}

/// "" for an absolute path without `.`, `..` and empty parts.
std::string PathFault(std::string_view path) {
  if (path.empty()) return "is empty";
  if (HasControl(path)) return "holds a control character";
  if (path.front() != '/') return "is not absolute";
  if (path == "/") return "";
  for (size_t at = 1; at <= path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    const std::string_view part = path.substr(at, end - at);
    if (part == "." || part == "..") return fmt::format("has the part `{}`", part);
    if (part.empty()) return end == path.size() ? "ends in `/`" : "has an empty part";
    at = end + 1;
  }
  return "";
}

/// Whether `path` is `directory` or lies in it.
bool Within(std::string_view path, std::string_view directory) {
  if (directory == "/") return true;
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

}  // namespace

std::string DefaultTarget(std::string_view name) { return fmt::format("/mnt/{}", name); }

std::vector<Mount> MountsOf(const Value& option) {
  std::vector<Mount> mounts;
  if (option.kind() != ValueKind::Map) return mounts;
  for (const auto& [name, value] : option.as_map()) {
    if (name.kind() != ValueKind::String || value.kind() != ValueKind::Map) continue;
    const Value* const type = value.Find("type");
    const Value* const source = value.Find("source");
    const Value* const target = value.Find("target");
    const Value* const read_only = value.Find("read_only");
    if (type == nullptr || type->kind() != ValueKind::String || source == nullptr || source->kind() != ValueKind::String) continue;
    if (target == nullptr || target->kind() != ValueKind::String || read_only == nullptr || read_only->kind() != ValueKind::Bool) continue;
    const Value* const create = value.Find("create");
    mounts.push_back({name.as_string(), type->as_string() == "volume", source->as_string(), target->as_string(), read_only->as_bool(),
                      create != nullptr && create->kind() == ValueKind::Bool && create->as_bool()});
  }
  return mounts;
}

std::vector<Mount> MountsOf(const Job& job, Evaluator& evaluator, EvalContext& context) {
  for (const NamedExpr& option : job.backend.options) {
    Value value;
    if (option.name == "mounts" && evaluator.Evaluate(option.value, context, value)) return MountsOf(value);
  }
  return {};
}

std::vector<MountFault> FaultsOf(const std::vector<Mount>& mounts, BackendKind kind) {
  std::vector<MountFault> faults;
  for (size_t i = 0; i < mounts.size(); ++i) {
    const Mount& m = mounts[i];
    const auto bad = [&](MountPart part, std::string message, std::string label, std::string help, size_t other = SIZE_MAX) {
      faults.push_back({i, other, part, std::move(message), std::move(label), std::move(help)});
    };
    if (!IsNameOf(m.name, "_") || (m.name.front() >= '0' && m.name.front() <= '9') || m.name.front() == '_') {
      bad(MountPart::Name, "cannot be named so", "letters, digits and `_`, a letter first", "the name is that of a variable too, JOB_MOUNT_NAME:  data = { source = \"/srv/data\" }");
      continue;
    }
    if (m.create && !m.volume) {
      bad(MountPart::Source, "shall be created, and is a directory of the engine's machine", "only volumes are created", "make the directory there and leave `create` out, or name a volume:  volume = \"scratch\"");
      continue;
    }
    if (m.volume) {
      if (kind == BackendKind::Apptainer) {
        bad(MountPart::Source, "is a volume, which apptainer does not have", "volumes belong to an engine", "name a directory:  source = \"/srv/data\"");
        continue;
      }
      if (!IsNameOf(m.source, "_.-") || m.source.size() < 2 || std::string_view("_.-").find(m.source.front()) != std::string_view::npos) {
        bad(MountPart::Source, fmt::format("names the volume `{}`, which no engine accepts", m.source), "two or more letters, digits, `_`, `.`, `-`",
            m.source.find('/') != std::string::npos ? "a path is written:  source = \"/srv/data\"" : "for example:  volume = \"pip-cache\"");
        continue;
      }
    } else if (std::string fault = PathFault(m.source); !fault.empty()) {
      const bool relative = fault == "is not absolute";
      bad(MountPart::Source, fmt::format("has a source that {}", fault), relative ? "relative to what? The machine may be another one" : "not a plain path",
          relative && m.source.find('/') == std::string::npos && !m.source.empty() && m.source.front() != '.'
              ? fmt::format("write the whole path, or name a volume of the engine:  volume = \"{}\"", m.source)
              : "write the whole path:  source = \"/srv/data\"");
      continue;
    } else if (kind == BackendKind::Apptainer && m.source.find_first_of(":,") != std::string::npos) {
      bad(MountPart::Source, "has a source with `:` or `,`, which apptainer cannot be told", "ends the path for `--bind`", "give the directory another name, or a link without these characters");
      continue;
    }
    if (std::string fault = PathFault(m.target); !fault.empty()) {
      bad(MountPart::Target, fmt::format("has a target that {}", fault), "the path at which jobs see it", fmt::format("write the whole path:  target = \"{}\"", DefaultTarget(m.name)));
      continue;
    }
    if (m.target.find_first_of(":,") != std::string::npos) {
      bad(MountPart::Target, "has a target with `:` or `,`", "ends the path for some engines", fmt::format("for example:  target = \"{}\"", DefaultTarget(m.name)));
      continue;
    }
    if (m.target == "/") {
      bad(MountPart::Target, "would hide the whole image", "the root of the image", fmt::format("mount it below:  target = \"{}\"", DefaultTarget(m.name)));
      continue;
    }
    if (Within(m.target, kOwnPlaces)) {
      bad(MountPart::Target, fmt::format("lies in `{}`, where jobc has the places of the attempt", kOwnPlaces), "not free", fmt::format("choose another path:  target = \"{}\"", DefaultTarget(m.name)));
      continue;
    }
    bool system = false;
    for (const std::string_view own : {"/proc", "/sys", "/dev"}) {
      if (!Within(m.target, own) || (own == "/dev" && m.target != "/dev")) continue;
      bad(MountPart::Target, fmt::format("lies in `{}`, which belongs to the kernel", own), "not free", fmt::format("choose another path:  target = \"{}\"", DefaultTarget(m.name)));
      system = true;
      break;
    }
    if (system) continue;
    for (size_t k = 0; k < i; ++k) {
      const Mount& other = mounts[k];
      if (other.target == m.target) {
        bad(MountPart::Target, fmt::format("has the target of `{}`, `{}`", other.name, m.target), "one of the two would be hidden",
            other.source == m.source && other.volume == m.volume ? fmt::format("leave one of them out") : fmt::format("choose another path:  target = \"{}\"", DefaultTarget(m.name)), k);
        break;
      }
      if (Within(m.target, other.target) || Within(other.target, m.target)) {
        const bool inside = Within(m.target, other.target);
        bad(MountPart::Target, fmt::format("{} `{}`", inside ? "lies inside the mount" : "would be mounted over", other.name), fmt::format("`{}` is at `{}`", other.name, other.target),
            fmt::format("put them beside each other:  target = \"{}\"", DefaultTarget(m.name)), k);
        break;
      }
    }
  }
  return faults;
}

std::string StagingFault(std::string_view place) {
  if (place.empty()) return "it is empty";
  for (const char c : place) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return "it holds a control character";
  }
  const size_t scheme = place.find("://");
  if (scheme == std::string_view::npos) return "";
  if (!place.starts_with("s3://") && !place.starts_with("gs://")) return "it is neither a folder nor a bucket";
  std::string_view rest = place.substr(scheme + 3);
  while (rest.ends_with('/')) rest.remove_suffix(1);
  if (rest.empty() || rest.front() == '/') return "it names no bucket";
  for (; !rest.empty();) {
    const size_t end = std::min(rest.find('/'), rest.size());
    const std::string_view part = rest.substr(0, end);
    if (part.empty() || part == "." || part == "..") return fmt::format("`{}` is no folder of a bucket", part.empty() ? "//" : part);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return "";
}

std::string WorkdirFault(std::string_view path) {
  if (std::string fault = PathFault(path); !fault.empty()) return fault;
  if (Within(path, kOwnPlaces)) return fmt::format("lies in `{}`, where jobc has the places of the attempt", kOwnPlaces);
  return "";
}

}  // namespace jobc::ir
