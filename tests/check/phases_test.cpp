// Ruling on phases, as a table test: for every attribute of the schema, a value of each phase is accepted exactly where the
// schema says so, and what is too late is E208 and points at the leaf that makes it so.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/check/schema.h"
#include "tests/check/fixture.h"

namespace jobc {
namespace {

using check::Attributes;

/// Where an attribute stands: `$` is a value of `type`. `top` stands beside the job instead of inside it.
struct Row {
  std::string_view name;
  uint32_t block;
  std::string_view type;   ///< Int, Bool, String, Duration, Bytes, List, Word: of what `$` is replaced by
  std::string_view text;
  bool top = false;
  bool runs = false;       ///< says itself what to run
};

const std::vector<Row>& Rows() {
  using namespace check;
  static const std::vector<Row> rows = {
      {"for", kJob, "List", "for i in $ max 5"},
      {"matrix", kJob, "List", "matrix { a = $ }"},
      {"when", kJob, "Bool", "when = $"},
      {"input", kJob, "Int", "input { a: Int = $ }"},
      {"env", kJob, "String", "env { A = $ }"},
      {"image", kJob, "String", "image = $"},
      {"pools", kJob, "Int", "pools = { p = $ }"},
      {"priority", kJob, "Int", "priority = $"},
      {"errors", kJob, "Int", "errors { exit($) => oom }"},
      {"on_error", kJob, "Word", "on_error = $"},
      {"run", kJob, "String", "run = [\"x\", $]", false, true},
      {"script", kJob, "String", "script = <<~SH\n  echo ~{$}\nSH\n", false, true},
      {"image_args", kJob, "String", "image = \"a\", image_args = [$]", false, true},
      {"prologue", kJob, "String", "prologue = <<~SH\n  echo ~{$}\nSH\n"},
      {"epilogue", kJob, "String", "epilogue = <<~SH\n  echo ~{$}\nSH\n"},
      {"cache", kJob, "Bool", "cache_salt = \"1\", cache = $"},
      {"cache_salt", kJob, "String", "cache_salt = $"},
      {"labels", kJob, "String", "labels { a = $ }"},
      {"backend", kJob, "Int", "backend = process { max_parallel = $ }"},
      {"staging", kJob, "String", "staging = $"},
      {"log_limit", kJob, "Bytes", "log_limit = $"},
      {"grace", kJob, "Duration", "grace = $"},
      {"inherit_env", kJob, "String", "inherit_env = [\"A\" , $]"},
      {"output", kJob, "Int", "output { a: Int = $ }"},
      {"require", kCheck, "Bool", "check c { require $ }", true},
      {"cpu", kResourcesBlock, "Int", "resources { cpu = min($, 8) }"},
      {"memory", kResourcesBlock, "Bytes", "resources { memory = min($, 1GiB) }"},
      {"disk", kResourcesBlock, "Bytes", "resources { disk = min($, 1GiB) }"},
      {"gpu", kResourcesBlock, "Int", "resources { gpu = min($, 8) }"},
      {"spot", kResourcesBlock, "Bool", "resources { spot = $ }"},
      {"queue", kTimeout, "Duration", "timeout { queue = $ }"},
      {"run", kTimeout, "Duration", "timeout { run = $ }"},
      {"total", kTimeout, "Duration", "timeout { total = $ }"},
      {"idle", kTimeout, "Duration", "timeout { idle = $ }"},
      {"stage", kTimeout, "Duration", "timeout { stage = $ }"},
      {"collect", kTimeout, "Duration", "timeout { collect = $ }"},
      {"max_attempts", kRetry, "Int", "retry { max_attempts = $ }"},
      {"max_attempts", kSubmit, "Int", "submit { max_attempts = $ }"},
      {"backoff", kRetry, "Duration", "retry { max_attempts = 2, backoff = constant($) }"},
      {"backoff", kSubmit, "Duration", "submit { backoff = exponential($) }"},
      {"backoff", kRetryOn, "Duration", "retry { max_attempts = 2, on oom { backoff = linear($, max = 1h) } }"},
      {"retries", kRetryOn, "Int", "retry { max_attempts = 2, on oom { retries = $ } }"},
      {"delay", kRetryOn, "Duration", "retry { max_attempts = 2, on oom { delay = $ } }"},
      {"resources", kRetryOn, "Bytes", "retry { max_attempts = 2, on oom { resources { memory = min($, 1GiB) } } }"},
      {"timeout", kRetryOn, "Duration", "retry { max_attempts = 2, on oom { timeout { run = min($, 1h) } } }"},
      {"slots", kPool, "Int", "pool q { slots = $ }", true},
      {"prune", kPublish, "Bool", "publish \"results\" { prune = $ }", true},
      {"time", kLimits, "Duration", "limits { time = $ }", true},
      {"attempts", kLimits, "Int", "limits { attempts = $ }", true},
      {"instances", kLimits, "Int", "limits { instances = $ }", true},
      {"keep", kLimits, "Duration", "limits { keep = $ }", true},
  };
  return rows;
}

/// Rows of the schema that take no expression of their own, or that only hold other attributes.
bool HoldsOthers(const check::Attribute& attribute) {
  using namespace check;
  if ((attribute.blocks & (kTest | kMock | kExpect | kExpectPlan)) != 0) return true;
  if (attribute.name == "after" || attribute.name == "on" || attribute.name == "never") return true;  // jobs and words only
  if (attribute.name == "secret_files") return true;                                                    // secrets only
  if (attribute.name == "params" || attribute.name == "job" || attribute.name == "limits") return true;
  return attribute.shape == Shape::Block && (attribute.blocks & kJob) != 0 &&
         (attribute.name == "resources" || attribute.name == "timeout" || attribute.name == "retry" || attribute.name == "submit");
}

struct Leaf {
  Phase phase;
  std::string_view text;   ///< an Int of at least 1
};
constexpr Leaf kLeaves[] = {{Phase::C, "3"}, {Phase::P, "params.n"}, {Phase::S, "src.n"}, {Phase::A, "attempt"}, {Phase::E, "exit_code()"}, {Phase::R, "length(run.failed_jobs)"}};

std::string Value(std::string_view type, std::string_view leaf) {
  const std::string l(leaf);
  if (type == "Bool") return l + " > 1";
  if (type == "String") return "\"a~{" + l + "}\"";
  if (type == "Duration") return "1s * " + l;
  if (type == "Bytes") return "1KiB * " + l;
  if (type == "List") return "[" + l + "]";
  if (type == "Word") return "if " + l + " > 1 then halt else drain";
  return l;
}

std::string FileOf(const Row& row, std::string_view leaf) {
  std::string text(row.text);
  text.replace(text.find('$'), 1, Value(row.type, leaf));
  std::string file = "edition = 1\nparams { n: Int }\npool p { slots = 100 }\njob src { run = [\"x\", params.n], pools = { p = 1 }, output { n: Int } }\n";
  if (row.top) return file + text + "\n";
  if (text.rfind("image = ", 0) == 0) text += "\nbackend = docker { }";  // `process` runs none
  return file + "job work {\n" + text + "\n" + (row.runs ? "" : "run = [\"x\"]\n") + "}\n";
}

const check::Attribute* AttributeOf(const Row& row) {
  for (const check::Attribute& attribute : Attributes()) {
    if (attribute.name == row.name && (attribute.blocks & row.block) != 0) return &attribute;
  }
  return nullptr;
}

/// Codes of errors; what is only worth a warning is not this test's matter.
std::string Errors(const Outcome& outcome) {
  std::string all;
  for (const std::string& code : outcome.codes) {
    if (code[0] == 'E') all += (all.empty() ? "" : " ") + code;
  }
  return all;
}

TEST(Phases, TableNamesEveryAttributeOfTheSchema) {
  for (const check::Attribute& attribute : Attributes()) {
    if (HoldsOthers(attribute)) continue;
    const bool tested = std::any_of(Rows().begin(), Rows().end(), [&](const Row& row) { return row.name == attribute.name && (row.block & attribute.blocks) != 0; });
    EXPECT_TRUE(tested) << "add a row for `" << attribute.name << "` in " << check::BlockTitle(attribute.blocks & (~attribute.blocks + 1));
  }
}

TEST(Phases, ValuesAreAcceptedUpToThePhaseOfTheirAttribute) {
  for (const Row& row : Rows()) {
    const check::Attribute* attribute = AttributeOf(row);
    ASSERT_NE(attribute, nullptr) << row.name;
    for (const Leaf& leaf : kLeaves) {
      if (leaf.phase > attribute->latest || leaf.phase > Phase::S) continue;
      Outcome outcome = CheckText(FileOf(row, leaf.text));
      EXPECT_EQ(Errors(outcome), "") << outcome.text << outcome.rendered;
    }
  }
}

TEST(Phases, ValuesThatAreTooLateAreToldWithTheLeaf) {
  for (const Row& row : Rows()) {
    const check::Attribute* attribute = AttributeOf(row);
    ASSERT_NE(attribute, nullptr) << row.name;
    for (const Leaf& leaf : kLeaves) {
      if (leaf.phase <= attribute->latest || leaf.phase > Phase::S) continue;
      Outcome outcome = CheckText(FileOf(row, leaf.text));
      ASSERT_EQ(Errors(outcome), "E208") << outcome.text << outcome.rendered;
      const auto late = std::find_if(outcome.diagnostics.begin(), outcome.diagnostics.end(), [](const Diagnostic& d) { return d.kind->code == "E208"; });
      const Span at = late->primary.span;
      EXPECT_EQ(outcome.text.substr(at.begin, at.end - at.begin), leaf.text) << outcome.rendered;
    }
  }
}

/// `attempt`, the program's end and the run's status exist only in rules of `retry`, in outputs and in `finally` and hooks.
TEST(Phases, WhatExistsOnlyElsewhereIsAnErrorEverywhereElse) {
  for (const Row& row : Rows()) {
    const check::Attribute* attribute = AttributeOf(row);
    ASSERT_NE(attribute, nullptr) << row.name;
    for (const Leaf& leaf : kLeaves) {
      if (leaf.phase <= Phase::S) continue;
      Outcome outcome = CheckText(FileOf(row, leaf.text));
      EXPECT_EQ(Errors(outcome).empty(), leaf.phase == attribute->latest) << outcome.text << outcome.rendered;
    }
  }
}

}  // namespace
}  // namespace jobc
