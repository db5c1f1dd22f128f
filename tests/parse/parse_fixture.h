// Parses a text and keeps everything a test asks about.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "compiler/ast/dump.h"
#include "compiler/parse/parse.h"

namespace jobc {

struct Parsed {
  SourceManager sources;
  Diagnostics diags;
  SourceId source;
  ast::File file;

  explicit Parsed(std::string text) {
    source = sources.Add("test.job", std::move(text));
    file = Parse(source, sources, diags);
  }
  std::string Ast() const { return DumpAst(file, sources); }
  /// "line:column CODE message" of each diagnostic, sorted by place.
  std::vector<std::string> Faults() {
    diags.Sort();
    std::vector<std::string> out;
    for (const Diagnostic& d : diags.all()) {
      const LineColumn at = sources.Locate(source, d.primary.span.begin);
      out.push_back(fmt::format("{}:{} {} {}", at.line, at.column, d.kind->code, d.message));
    }
    return out;
  }
  const Diagnostic& OnlyFault() const {
    EXPECT_EQ(diags.all().size(), 1u);
    return diags.all().front();
  }
  std::string_view Text(Span span) const { return sources.Text(span); }
};

/// The dump of `text` as the value of one attribute; faults are test failures.
inline std::string ExprOf(const std::string& text) {
  Parsed parsed("x = " + text + "\n");
  EXPECT_THAT(parsed.Faults(), ::testing::IsEmpty()) << text;
  if (parsed.file.root.size != 1) return parsed.Ast();
  return DumpExpr(parsed.file, parsed.file[*parsed.file.begin(parsed.file.root)].value);
}

/// The only fault of `text` as a value, without its place.
inline std::string FaultOf(const std::string& text) {
  Parsed parsed("x = " + text + "\n");
  if (parsed.diags.all().size() != 1) return fmt::format("{} faults", parsed.diags.all().size());
  const Diagnostic& d = parsed.diags.all().front();
  return fmt::format("{} {}", d.kind->code, d.message);
}

}  // namespace jobc
