// The formats for tools: JSON, SARIF 2.1.0 (OASIS, section numbers below are its) and GitHub workflow commands.
#include <nlohmann/json.hpp>

#include <map>

#include "compiler/diagnostics/render.h"
#include "support/text_width.h"

namespace jobc {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  // Labels may quote source text that is not valid UTF-8.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

std::string_view SeverityText(const Diagnostic& diagnostic) {
  return diagnostic.kind->severity == Severity::Error ? "error" : "warning";
}

Json PointJson(const SourceManager& sources, SourceId source, uint32_t offset) {
  const LineColumn at = sources.Locate(source, offset);
  return {{"line", at.line}, {"column", at.column}, {"offset", offset}};
}

void AddPlace(Json& json, const SourceManager& sources, Span span) {
  if (!span.valid()) {
    json["file"] = nullptr;
    json["range"] = nullptr;
    return;
  }
  json["file"] = sources[span.source].name;
  json["range"] = {{"start", PointJson(sources, span.source, span.begin)}, {"end", PointJson(sources, span.source, span.end)}};
}

/// A path as a relative or file: URI reference (3.4.4): only unreserved characters and `/` stay as they are.
std::string UriOf(std::string_view path) {
  std::string uri = path.starts_with('/') ? "file://" : "";
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
                       c == '_' || c == '~' || c == '/';
    if (plain) {
      uri += c;
    } else {
      uri += fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    }
  }
  return uri;
}

Json RegionJson(const SourceManager& sources, Span span) {
  const LineColumn begin = sources.Locate(span.source, span.begin);
  const LineColumn end = sources.Locate(span.source, span.end);
  return {{"startLine", begin.line}, {"startColumn", begin.column}, {"endLine", end.line}, {"endColumn", end.column}};
}

Json LocationJson(const SourceManager& sources, Span span) {
  return {{"physicalLocation",
           {{"artifactLocation", {{"uri", UriOf(sources[span.source].name)}}}, {"region", RegionJson(sources, span)}}}};
}

Json FixJson(const SourceManager& sources, const Help& help) {
  std::map<SourceId, Json> replacements;
  for (const Edit& edit : help.edits) {
    Json& list = replacements.try_emplace(edit.span.source, Json::array()).first->second;
    list.push_back({{"deletedRegion", RegionJson(sources, edit.span)}, {"insertedContent", {{"text", edit.text}}}});
  }
  Json changes = Json::array();
  for (auto& [source, list] : replacements) {
    changes.push_back({{"artifactLocation", {{"uri", UriOf(sources[source].name)}}}, {"replacements", std::move(list)}});
  }
  return {{"description", {{"text", help.text}}}, {"artifactChanges", std::move(changes)}};
}

/// The message with everything a reader of a one-text format needs: label, notes and helps on lines of their own.
std::string WholeText(const Diagnostic& diagnostic) {
  std::string text = diagnostic.message;
  if (!diagnostic.primary.label.empty()) text += " (" + diagnostic.primary.label + ")";
  for (const Help& help : diagnostic.helps) text += "\nhelp: " + help.text;
  for (const std::string& note : diagnostic.notes) text += "\nnote: " + note;
  return text;
}

/// Escapes of workflow commands: https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts
std::string GithubEscape(std::string_view text, bool property) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '%': out += "%25"; break;
      case '\r': out += "%0D"; break;
      case '\n': out += "%0A"; break;
      case ':': out += property ? "%3A" : ":"; break;
      case ',': out += property ? "%2C" : ","; break;
      default: out += c;
    }
  }
  return out;
}

}  // namespace

std::string RenderJson(const Diagnostics& diags, const SourceManager& sources) {
  Json list = Json::array();
  for (const Diagnostic& each : diags.all()) {
    Json json;
    json["code"] = each.kind->code;
    json["name"] = each.kind->name;
    json["severity"] = SeverityText(each);
    json["message"] = each.message;
    AddPlace(json, sources, ShownSpan(sources, each.primary.span));
    json["label"] = each.primary.label;
    json["secondary"] = Json::array();
    for (const Annotation& annotation : each.secondary) {
      Json other;
      AddPlace(other, sources, ShownSpan(sources, annotation.span));
      other["label"] = annotation.label;
      json["secondary"].push_back(std::move(other));
    }
    json["notes"] = each.notes;
    json["helps"] = Json::array();
    for (const Help& help : each.helps) {
      Json edits = Json::array();
      for (const Edit& edit : help.edits) {
        Json change;
        AddPlace(change, sources, edit.span);
        change["text"] = edit.text;
        edits.push_back(std::move(change));
      }
      json["helps"].push_back({{"text", help.text}, {"edits", std::move(edits)}});
    }
    list.push_back(std::move(json));
  }
  return Dump({{"schema", "jobc.diagnostics/1"},
               {"diagnostics", std::move(list)},
               {"summary", {{"errors", diags.error_count()}, {"warnings", diags.warning_count()}}}});
}

std::string RenderSarif(const Diagnostics& diags, const SourceManager& sources, std::string_view tool_version) {
  // Rules (3.19.23) are public codes; several kinds may share one.
  Json rules = Json::array();
  std::map<std::string_view, size_t> rule_index;
  for (const Diagnostic& each : diags.all()) {
    if (!rule_index.try_emplace(each.kind->code, rules.size()).second) continue;
    rules.push_back({{"id", each.kind->code},
                     {"name", each.kind->name},
                     {"help", {{"text", fmt::format("jobc explain {}", each.kind->code)}}},
                     {"defaultConfiguration", {{"level", SeverityText(each)}}}});
  }
  Json results = Json::array();
  for (const Diagnostic& each : diags.all()) {
    Json result = {{"ruleId", each.kind->code},
                   {"ruleIndex", rule_index[each.kind->code]},
                   {"level", SeverityText(each)},
                   {"message", {{"text", WholeText(each)}}}};
    if (each.primary.span.valid()) {
      result["locations"] = Json::array({LocationJson(sources, ShownSpan(sources, each.primary.span))});
    }
    Json related = Json::array();
    for (const Annotation& annotation : each.secondary) {
      Json location = LocationJson(sources, ShownSpan(sources, annotation.span));
      location["id"] = related.size() + 1;
      if (!annotation.label.empty()) location["message"] = {{"text", annotation.label}};
      related.push_back(std::move(location));
    }
    if (!related.empty()) result["relatedLocations"] = std::move(related);
    Json fixes = Json::array();
    for (const Help& help : each.helps) {
      if (!help.edits.empty()) fixes.push_back(FixJson(sources, help));
    }
    if (!fixes.empty()) result["fixes"] = std::move(fixes);
    results.push_back(std::move(result));
  }
  Json run = {{"tool", {{"driver", {{"name", "jobc"}, {"version", tool_version}, {"rules", std::move(rules)}}}}},
              {"columnKind", "unicodeCodePoints"},
              {"results", std::move(results)}};
  return Dump({{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
               {"version", "2.1.0"},
               {"runs", Json::array({std::move(run)})}});
}

std::string RenderGithub(const Diagnostics& diags, const SourceManager& sources) {
  std::string out;
  for (const Diagnostic& each : diags.all()) {
    out += fmt::format("::{} ", SeverityText(each));
    const Span span = ShownSpan(sources, each.primary.span);
    if (span.valid()) {
      const LineColumn begin = sources.Locate(span.source, span.begin);
      const LineColumn end = sources.Locate(span.source, span.end);
      out += fmt::format("file={},line={},endLine={},", GithubEscape(VisibleText(sources[span.source].name), true), begin.line,
                         end.line);
      // Columns are only allowed where begin and end are on one line.
      if (begin.line == end.line) {
        out += fmt::format("col={},endColumn={},", begin.column, std::max(begin.column, end.column - 1));
      }
    }
    out += fmt::format("title={}::{}\n", each.kind->code, GithubEscape(WholeText(each), false));
  }
  return out;
}

}  // namespace jobc
