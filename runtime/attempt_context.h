// What the expressions of one attempt see beside the run: its directories, staged inputs, secrets, and, once its program
// has ended, its outputs and logs. Derived from InstanceContext (run_state.h); made by the engine for one attempt at a
// time. World is the part that is the same for the whole run: the plan's files on this machine, and secrets.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ir/evaluate.h"
#include "ir/plan.h"
#include "runtime/run_state.h"

namespace jobc {

/// Where the files of a plan lie on this machine.
struct Roots {
  std::string root;  ///< absolute; Source files are relative to it
  std::string cwd;   ///< absolute; Cwd files are relative to it
};

/// Answers for files and secrets, everywhere in a run.
class World : public ir::EvalContext {
 public:
  /// `plan` must outlive it. `secrets` has one text for each of Program::secrets.
  World(const ir::Plan& plan, Roots roots, std::vector<std::string> secrets);

  /// Where files of text_file() and json_file() are made, each content once; without it they lie nowhere.
  void SetTextsDir(std::string dir) { texts_dir_ = std::move(dir); }
  /// Absolute path on this machine; empty for URIs that were not fetched. Makes a file of text_file() and json_file() if it is not there yet.
  std::string Locate(const ir::FileValue& file) const;
  /// The content of the remote file `uri` lies at `path` now.
  void SetFetched(const std::string& uri, std::string path) { fetched_[uri] = std::move(path); }
  /// The plan's row of a remote file whose server names its content; null: there is none, any content will do.
  const ir::FileRow* NamedRow(const std::string& uri) const;
  const Roots& roots() const { return roots_; }
  const std::vector<std::string>& secrets() const { return secrets_; }

  bool Secret(uint32_t index, ir::Value& out, ir::Fault& fault) override;
  bool FileSize(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override;
  bool FileSha256(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override;
  bool FileText(const ir::FileValue& file, std::string& out, ir::Fault& fault) override;

 private:
  const ir::Plan& plan_;
  Roots roots_;
  std::vector<std::string> secrets_;
  std::string texts_dir_;
  std::unordered_map<std::string, const ir::FileRow*> named_;  ///< by URI
  std::unordered_map<std::string, std::string> fetched_;  ///< remote files that are here, by URI
};

/// What a log kept of one stream.
struct LogText {
  std::string text;
  bool truncated = false;
};

/// Gives the whole of what was kept; called at most once for each stream of an attempt.
class LogSource {
 public:
  virtual ~LogSource() = default;
  virtual Result<LogText> ReadAll(LogStream stream) = 0;
};

class AttemptContext : public InstanceContext {
 public:
  AttemptContext(const RunState& state, World& world, ir::Evaluator& inputs, InstanceRef instance)
      : InstanceContext(state, &world, inputs, instance), world_context_(world) {}

  World& world() { return world_context_; }
  const RunState& run_state() const { return state_; }

  /// `$JOB_OUTPUT` on this machine, and as the job sees it if that differs; before it is set `output.x` is unavailable.
  void SetOutputDir(std::string dir, std::string seen = "") {
    seen_output_dir_ = seen.empty() ? dir : std::move(seen);
    output_dir_ = std::move(dir);
  }
  const std::string& output_dir() const { return output_dir_; }
  /// Evaluates `output.x` paths with this; must not be the Evaluator the context is used with.
  void SetPathEvaluator(ir::Evaluator* evaluator) { paths_ = evaluator; }

  /// The values of inputs with staged paths; in declared order. Before this, inputs have their original paths.
  void SetStagedInputs(ir::ListValue inputs) { staged_ = std::move(inputs); has_staged_ = true; }
  /// `original` (absolute) is seen as `staged` by the job.
  void AddStagedPath(const std::string& original, const std::string& staged) {
    staged_paths_.emplace(original, staged);
    originals_.emplace(staged, original);
  }
  /// Where a file lies on this machine that the job sees at the absolute path `seen`: a staged input, or something in its
  /// output directory. `seen` itself if it is neither.
  std::string OnThisMachine(const std::string& seen) const;

  /// The program has ended: stdout(), read_text() and so on work from now on. `logs` must outlive the context.
  void SetEnded(LogSource* logs, std::optional<int> exit_code) {
    logs_ = logs;
    exit_code_ = exit_code;
    ended_ = true;
  }
  /// Earlier `= expr` outputs.
  void SetOutputValue(uint32_t output, ir::Value value) { output_values_[output] = std::move(value); }

  bool Input(uint32_t index, ir::Value& out, ir::Fault& fault) override;
  bool OutputPath(uint32_t output, ir::Value& out, ir::Fault& fault) override;
  bool OutputValue(uint32_t output, ir::Value& out, ir::Fault& fault) override;
  bool Stdout(ir::Value& out, ir::Fault& fault) override;
  bool Stderr(ir::Value& out, ir::Fault& fault) override;
  bool ExitCode(ir::Value& out, ir::Fault& fault) override;
  bool ReadText(const std::string& path, ir::Value& out, ir::Fault& fault) override;
  bool ReadJson(const std::string& path, ir::Value& out, ir::Fault& fault) override;
  bool FileSize(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override;
  bool FileSha256(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override;
  bool FileText(const ir::FileValue& file, std::string& out, ir::Fault& fault) override;

 private:
  bool Stream(LogStream stream, ir::Value& out, ir::Fault& fault);
  /// `file` with its location on this machine.
  ir::FileValue Found(ir::FileValue file) const;

  World& world_context_;
  std::string output_dir_;
  std::string seen_output_dir_;
  ir::Evaluator* paths_ = nullptr;
  bool has_staged_ = false;
  ir::ListValue staged_;
  std::unordered_map<std::string, std::string> staged_paths_;
  std::unordered_map<std::string, std::string> originals_;  ///< the other way round
  bool ended_ = false;
  LogSource* logs_ = nullptr;
  std::optional<int> exit_code_;
  std::optional<ir::Value> streams_[2];
  std::map<uint32_t, ir::Value> output_values_;
};

/// Whether `text` is well-formed UTF-8; `at` is set to the first byte that is not.
bool IsUtf8(std::string_view text, size_t* at = nullptr);

/// A relative path without `.`, `..` and empty parts, or nothing if it is absolute or leaves its directory.
std::optional<std::string> NormalRelativePath(std::string_view path);

}  // namespace jobc
