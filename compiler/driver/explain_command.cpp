#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "compiler/diagnostics/diagnostics.h"
#include "compiler/driver/command_line.h"
#include "compiler/driver/explain.h"
#include "compiler/driver/terminal.h"
#include "support/exit_code.h"

// Written by cmake/EmbedFile.cmake from docs/diagnostics.md.
extern const char kDiagnosticsDocument[];
extern const unsigned long kDiagnosticsDocumentSize;

namespace jobc {

std::vector<ExplainText> ExplainTexts() {
  const std::string_view document(kDiagnosticsDocument, kDiagnosticsDocumentSize);
  std::vector<ExplainText> texts;
  constexpr std::string_view kHeading = "\n## ";
  for (size_t at = document.find(kHeading); at != std::string_view::npos;) {
    const size_t next = document.find(kHeading, at + 1);
    ExplainText section;
    section.text = document.substr(at + 1, next == std::string_view::npos ? next : next - at - 1);
    while (section.text.ends_with("\n\n")) section.text.remove_suffix(1);
    const std::string_view heading = section.text.substr(3, section.text.find('\n') - 3);
    const size_t colon = heading.find(": ");
    section.code = heading.substr(0, colon);
    if (colon != std::string_view::npos) section.title = heading.substr(colon + 2);
    texts.push_back(section);
    at = next;
  }
  return texts;
}

int RunExplain(const Invocation& invocation, Terminal& terminal) {
  using Json = nlohmann::ordered_json;
  const std::vector<ExplainText> texts = ExplainTexts();
  const auto as_json = [](const ExplainText& each, bool with_text) {
    Json json = {{"code", each.code}, {"title", each.title}};
    if (with_text) json["text"] = each.text;
    return json;
  };
  if (invocation.arguments().empty()) {
    if (invocation.json()) {
      Json list = Json::array();
      for (const ExplainText& each : texts) list.push_back(as_json(each, false));
      terminal.Out(Json{{"schema", "jobc.explain/1"}, {"codes", std::move(list)}}.dump() + "\n");
    } else {
      for (const ExplainText& each : texts) terminal.Out(fmt::format("{}  {}\n", each.code, each.title));
    }
    return kExitOk;
  }
#ifdef JOBC_WITH_COMPILER
  if (std::optional<int> done = ExplainOfRun(invocation, terminal)) return *done;
#endif
  if (invocation.arguments().size() > 1) {
    terminal.Err(RenderUsageError({fmt::format("`{}` is one argument too many", invocation.arguments()[1]), {"`jobc explain CODE` takes one code", "`jobc explain run|skip|value` say more about a run"}}, terminal.err_color()));
    return kExitUsage;
  }
  std::string code = invocation.arguments().front();
  for (char& c : code) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  const auto found = std::find_if(texts.begin(), texts.end(), [&](const ExplainText& each) { return each.code == code; });
  if (found == texts.end()) {
    std::vector<std::string_view> codes;
    for (const ExplainText& each : texts) codes.push_back(each.code);
    UsageError error{fmt::format("there is no diagnostic with the code `{}`", invocation.arguments().front()), {}};
    const std::string_view similar = DidYouMean(code, codes);
    if (!similar.empty()) error.helps.push_back(fmt::format("did you mean `jobc explain {}`?", similar));
    error.helps.push_back("`jobc explain` lists all codes");
    terminal.Err(RenderUsageError(error, terminal.err_color()));
    return kExitUsage;
  }
  if (invocation.json()) {
    Json json = as_json(*found, true);
    json.update(Json{{"schema", "jobc.explain/1"}});
    terminal.Out(json.dump() + "\n");
  } else {
    terminal.Out(found->text);
  }
  return kExitOk;
}

}  // namespace jobc
