#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "compiler/script/scan.h"
#include "compiler/script/script.h"

namespace jobc::script {
namespace {

std::string ReferenceName(Interpreter interpreter, Part part, uint32_t index) {
  switch (interpreter) {
    case Interpreter::Python: return "_job[" + std::to_string(index) + "]";
    case Interpreter::R: return ".job[[" + std::to_string(index + 1) + "]]";
    default: break;
  }
  const char* prefix = part == Part::Script ? "JOBC_V" : part == Part::Prologue ? "JOBC_P" : "JOBC_E";
  return prefix + std::to_string(index);
}

/// One line that gives every shell variable its value and takes it out of the environment of the shell's children.
/// POSIX `$( )` drops newlines at the end, hence the dot.
std::string ShellPrelude(const Lowered& lowered) {
  const bool bash = lowered.interpreter == Interpreter::Bash;
  std::string text;
  for (const Binding& binding : lowered.bindings) {
    if (binding.value != binding.hole) continue;
    const std::string& v = binding.name;
    const std::string f = v + "_FILE";
    if (binding.carrier == Carrier::Array) {
      text += v + "=(); while IFS= read -r -d '' jobc_; do " + v + "+=(\"$jobc_\"); done < \"$" + f + "\"; unset " + f + "; ";
    } else if (bash) {
      text += "if [[ ${" + f + "+x} ]]; then IFS= read -r -d '' " + v + " < \"$" + f + "\" || :; unset " + f +
              "; else export -n " + v + "; fi; ";
    } else {
      text += "if [ \"${" + f + "+x}\" ]; then " + v + "=$(cat \"$" + f + "\" && echo .); " + v + "=${" + v + "%.}; unset " + f +
              "; elif [ \"${" + v + "+x}\" ]; then jobc_=$" + v + "; unset " + v + "; " + v + "=$jobc_; fi; ";
    }
  }
  if (!text.empty()) text += "unset jobc_; ";
  return text;
}

std::string Prelude(const Lowered& lowered) {
  if (lowered.bindings.empty()) return "";
  const std::string variable = lowered.part == Part::Epilogue ? "JOBC_EPILOGUE_VALUES" : "JOBC_VALUES";
  switch (lowered.interpreter) {
    case Interpreter::Python:
      return "import json as _json, os as _os; _job = _json.load(open(_os.environ[\"" + variable + "\"], encoding=\"utf-8\"))";
    case Interpreter::R: return ".job <- readRDS(Sys.getenv(\"" + variable + "\")); ";
    default: return ShellPrelude(lowered);
  }
}

void Bindings(const Template& source, Lowered& lowered) {
  std::map<std::tuple<std::string, HoleKind, bool, bool>, uint32_t> first;
  uint32_t count = 0;
  for (uint32_t i = 0; i < source.holes.size(); ++i) {
    const Hole& hole = source.holes[i];
    Binding binding;
    binding.hole = binding.value = i;
    binding.source = hole.source;
    if (!IsShell(source.interpreter)) {
      binding.carrier = Carrier::Data;
      binding.optional = true;
    } else {
      binding.carrier = hole.spliced && hole.kind == HoleKind::List ? Carrier::Array : Carrier::Variable;
      binding.optional = hole.spliced;
    }
    auto [at, fresh] = first.try_emplace({hole.source, hole.kind, hole.spliced, hole.optional}, i);
    if (fresh || hole.source.empty()) {
      binding.name = ReferenceName(source.interpreter, lowered.part, count++);
    } else {
      binding.value = at->second;
      binding.name = lowered.bindings[at->second].name;
    }
    lowered.bindings.push_back(std::move(binding));
  }
}

}  // namespace

std::string_view Tag(Interpreter interpreter) {
  switch (interpreter) {
    case Interpreter::Sh: return "SH";
    case Interpreter::Bash: return "BASH";
    case Interpreter::Python: return "PY";
    case Interpreter::R: return "R";
  }
  JOBC_UNREACHABLE();
}

std::optional<Interpreter> InterpreterOfTag(std::string_view tag) {
  tag = tag.substr(0, tag.find('_'));
  for (Interpreter i : {Interpreter::Sh, Interpreter::Bash, Interpreter::Python, Interpreter::R}) {
    if (tag == Tag(i)) return i;
  }
  return std::nullopt;
}

bool IsShell(Interpreter interpreter) { return interpreter == Interpreter::Sh || interpreter == Interpreter::Bash; }

std::string_view Name(Code code) {
  switch (code) {
    case Code::E401: return "E401";
    case Code::E403: return "E403";
    case Code::E404: return "E404";
    case Code::W491: return "W491";
  }
  JOBC_UNREACHABLE();
}

bool Lowered::has_errors() const {
  return std::any_of(findings.begin(), findings.end(), [](const Finding& f) { return f.code != Code::W491; });
}

uint32_t Lowered::OriginalOffset(uint32_t offset) const {
  auto after = std::upper_bound(positions.begin(), positions.end(), offset,
                                [](uint32_t at, const Anchor& anchor) { return at < anchor.lowered; });
  if (after == positions.begin()) return 0;
  const Anchor& anchor = *std::prev(after);
  return anchor.copied ? anchor.original + (offset - anchor.lowered) : anchor.original;
}

Lowered Lower(const Template& source, Part part) {
  Lowered lowered;
  lowered.interpreter = source.interpreter;
  lowered.part = part;
  Bindings(source, lowered);

  std::vector<std::string> names;
  for (const Binding& binding : lowered.bindings) names.push_back(binding.name);
  Scan scan(source);
  switch (source.interpreter) {
    case Interpreter::Sh:
    case Interpreter::Bash: ScanShell(names, scan); break;
    case Interpreter::Python: ScanPython(names, scan); break;
    case Interpreter::R: ScanR(names, scan); break;
  }
  std::stable_sort(scan.findings.begin(), scan.findings.end(),
                   [](const Finding& a, const Finding& b) { return a.hole < b.hole; });
  lowered.findings = std::move(scan.findings);

  std::string prelude = Prelude(lowered);
  uint32_t prelude_at = 0;
  if (source.interpreter == Interpreter::Python && !prelude.empty()) {
    if (scan.prelude_offset == UINT32_MAX) {
      prelude += "\n";
      lowered.line_offset = 1;
    } else {
      prelude = "; " + prelude;
      prelude_at = scan.prelude_offset;
    }
  }
  std::string& text = lowered.text;
  uint32_t copied = 0;
  auto anchor = [&](uint32_t original, bool is_copy) {
    if (!lowered.positions.empty() && lowered.positions.back().lowered == text.size()) lowered.positions.pop_back();
    lowered.positions.push_back({static_cast<uint32_t>(text.size()), original, is_copy});
  };
  auto copy_to = [&](uint32_t offset) {
    if (offset < copied) offset = copied;
    anchor(copied, true);
    text.append(source.text, copied, offset - copied);
    copied = offset;
  };
  auto write = [&](std::string_view own) {
    anchor(copied, false);
    text += own;
  };
  const auto size = static_cast<uint32_t>(source.text.size());
  bool prelude_done = prelude.empty();
  for (uint32_t i = 0; i < source.holes.size(); ++i) {
    uint32_t offset = std::min(source.holes[i].offset, size);
    if (!prelude_done && prelude_at <= offset) {
      copy_to(prelude_at);
      write(prelude);
      prelude_done = true;
    }
    copy_to(offset);
    write(scan.references[i]);
  }
  if (!prelude_done) {
    copy_to(prelude_at);
    write(prelude);
  }
  copy_to(size);
  return lowered;
}

std::string EncodeBindings(const Lowered& lowered) {
  nlohmann::json bindings = nlohmann::json::array();
  for (const Binding& b : lowered.bindings) {
    bindings.push_back({{"carrier", static_cast<int>(b.carrier)},
                        {"hole", b.hole},
                        {"name", b.name},
                        {"optional", b.optional},
                        {"source", b.source},
                        {"value", b.value}});
  }
  nlohmann::json all = {{"bindings", std::move(bindings)}, {"line_offset", lowered.line_offset}, {"part", static_cast<int>(lowered.part)}};
  return all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<Lowered> DecodeBindings(Interpreter interpreter, std::string text, std::string_view json) {
  const Error damaged{"the bindings of a script in the plan are damaged"};
  Lowered lowered;
  lowered.interpreter = interpreter;
  lowered.text = std::move(text);
  nlohmann::json all = nlohmann::json::parse(json.begin(), json.end(), nullptr, false);
  auto number = [](const nlohmann::json& object, const char* key, uint32_t limit) -> std::optional<uint32_t> {
    auto at = object.find(key);
    if (at == object.end() || !at->is_number_unsigned() || at->get<uint64_t>() > limit) return std::nullopt;
    return static_cast<uint32_t>(at->get<uint64_t>());
  };
  if (!all.is_object() || !all.contains("bindings") || !all["bindings"].is_array()) return damaged;
  auto line_offset = number(all, "line_offset", 1);
  auto part = number(all, "part", 2);
  if (!line_offset || !part) return damaged;
  lowered.line_offset = *line_offset;
  lowered.part = static_cast<Part>(*part);
  for (const nlohmann::json& b : all["bindings"]) {
    if (!b.is_object()) return damaged;
    auto index = static_cast<uint32_t>(lowered.bindings.size());
    auto carrier = number(b, "carrier", 2);
    auto hole = number(b, "hole", index);
    auto value = number(b, "value", index);
    auto name = b.find("name"), source = b.find("source"), optional = b.find("optional");
    if (!carrier || hole != index || !value || name == b.end() || !name->is_string() || source == b.end() || !source->is_string() ||
        optional == b.end() || !optional->is_boolean()) {
      return damaged;
    }
    lowered.bindings.push_back({*hole, *value, static_cast<Carrier>(*carrier), optional->get<bool>(), name->get<std::string>(),
                                source->get<std::string>()});
  }
  return lowered;
}

}  // namespace jobc::script
