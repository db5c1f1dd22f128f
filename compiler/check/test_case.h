// `test` blocks as the checker leaves them: every name resolved, every value a constant of its declared type. What runs
// them is compiler/driver (test_command.cpp) over runtime/virtual_run.h. Spans point into the checked sources.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "compiler/source/source.h"
#include "ir/plan.h"

namespace jobc {

/// How one attempt fails: a kind, or an error named by an arm of the job's `errors`.
struct MockFailure {
  ir::ErrorKind kind = ir::ErrorKind::Exit;
  std::string name;
};

/// A file that the mocked program leaves: a declared output, or a path below $JOB_OUTPUT.
struct MockFile {
  uint32_t output = UINT32_MAX;
  std::string path;
  std::string content;
};

/// `mock align["s1"] { … }`: what an instance does instead of running.
struct TestMock {
  Span span;                              ///< the job it names
  uint32_t job = UINT32_MAX;
  std::optional<ir::ListValue> indices;   ///< not given: every instance of the job
  bool skip = false;
  bool always_fails = false;              ///< `fail = kind`; else `failures` are one for each of the first attempts
  std::vector<MockFailure> failures;
  std::optional<int> exit_code;           ///< how the program ends by itself; 0 where nothing is said
  std::string stdout_text, stderr_text;
  std::optional<ir::Value> result;        ///< Json object
  std::vector<MockFile> files;
  int64_t takes_ms = 0;
};

enum class ExpectKind : uint8_t { Status, Export, State, Attempts, Error, Outputs, Message, Published, Instances, Count, Argv, PlanError };

/// One line of `expect` or `expect plan`.
struct TestExpect {
  ExpectKind kind = ExpectKind::Status;
  Span span;                              ///< of the expected value
  uint32_t index = UINT32_MAX;            ///< the job; for Export the export
  std::optional<ir::ListValue> indices;   ///< of one instance; not given: the only one, or the whole scatter
  std::string word;                       ///< Status, State, Error, Message, PlanError
  ir::Value value;                        ///< Export (of its type), Outputs (Json), Attempts, Count (Int)
  std::vector<std::string> words;         ///< Argv, Instances, Published
};

struct TestCase {
  std::string name;
  Span span;                              ///< of the name
  std::vector<std::pair<uint32_t, ir::Value>> params;   ///< index into Program::params
  std::optional<std::string> profile;
  std::vector<TestMock> mocks;
  std::vector<TestExpect> expects;
  bool runs = false;                      ///< has mocks, or expects something of the outcome
};

}  // namespace jobc
