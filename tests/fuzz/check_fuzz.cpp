// Any text through the whole compiler: check, lower, the plan as text and back, and every form of the diagnostics.
// The source stands in a directory that does not exist, so that nothing but embedded modules can be imported or read;
// texts that could name an absolute path are left out.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "compiler/check/check.h"
#include "compiler/diagnostics/render.h"
#include "compiler/lower/lower.h"
#include "ir/plan_json.h"
#include "support/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  for (std::string_view absolute : {"\"/", "'/"}) {
    if (text.find(absolute) != std::string::npos) return 0;
  }
  jobc::SourceManager sources;
  jobc::Diagnostics diags;
  jobc::SourceId root = sources.Add("fuzz.job", text, "/nonexistent/jobc");
  jobc::Model model = jobc::Check(root, sources, diags);
  std::optional<jobc::ir::Plan> plan;
  if (!diags.has_errors()) {
    plan = jobc::Lower(std::move(model), {}, sources, diags);
    JOBC_CHECK(plan.has_value() != diags.has_errors());
  }
  diags.Sort();
  JOBC_CHECK(jobc::RenderText(diags, sources, {.color = true, .width = 60}).empty() == diags.all().empty());
  JOBC_CHECK(!jobc::RenderJson(diags, sources).empty());
  JOBC_CHECK(!jobc::RenderSarif(diags, sources, "0").empty());
  static_cast<void>(jobc::RenderGithub(diags, sources));
  if (!plan) return 0;
  // What the compiler makes, the reader of plans accepts and writes the same.
  std::string written = jobc::ir::WritePlan(*plan);
  jobc::Result<jobc::ir::Plan> again = jobc::ir::ReadPlan(written);
  JOBC_CHECK(again.ok());
  JOBC_CHECK(jobc::ir::WritePlan(*again) == written);
  return 0;
}
