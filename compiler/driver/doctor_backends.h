// What `jobc doctor` finds out about one kind of backend: whether it can be used from here, its version, what it enforces, and
// what is missing. Looks and asks; changes nothing but may take a second where a daemon is slow to answer.
#pragma once

#include <string>
#include <vector>

#include "ir/plan.h"

namespace jobc {

/// A line of `jobc doctor`.
struct Finding {
  std::string area;     ///< "process", "state", "docker" …
  std::string name;
  bool ok = false;
  bool matters = true;  ///< false: missing it is no fault
  std::string text;
  std::string help;     ///< what would change it; empty: nothing, or nothing has to
};

struct BackendReport {
  ir::BackendKind kind = ir::BackendKind::Process;
  bool built = false;               ///< this jobc can run on it
  bool usable = false;              ///< now, from here
  std::string version;              ///< empty: not known
  std::string summary;              ///< one line
  std::string help;                 ///< what to type, or where to read; may be empty
  std::vector<Finding> details;     ///< for `jobc doctor NAME`
};

/// The process backend has its own findings in doctor_command.cpp; here are all others.
BackendReport ExamineBackend(ir::BackendKind kind);

/// `name`, where attempts would find it; else in this process's PATH. Empty: nowhere.
std::string FindProgram(const std::string& name);

}  // namespace jobc
