// Lowering of script heredocs: `~{x}` becomes a reference that is right for its place in the script, so that the script's
// text is constant (one hash for all values) and no value is ever parsed by the interpreter again.
//
// Two halves, both pure. Lower() runs in the compiler: it scans the script (shell_scanner, python_scanner, r_scanner),
// writes the references and reports what cannot take a value. Bind() and WrapRun() run where an attempt is prepared: given
// the texts of the values they make argv, environment and private files. Nothing here reads or writes a file or knows the
// AST; the caller maps `Finding::offset` to the source and writes `Launch::files` (mode 0600, outside $JOB_OUTPUT).
// docs/script-lowering.md has the table of contexts and the guarantee in words.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/result.h"

namespace jobc::script {

/// Chosen by the heredoc's tag: `sh -eu`, `bash -euo pipefail`, `python3`, `Rscript`.
enum class Interpreter : uint8_t { Sh, Bash, Python, R };

/// `SH`, `BASH`, `PY`, `R`, also with a suffix (`SH_2`); nothing for other tags.
std::optional<Interpreter> InterpreterOfTag(std::string_view tag);
std::string_view Tag(Interpreter interpreter);
bool IsShell(Interpreter interpreter);

/// What the checker knows about a value put into a script, as far as it matters here.
enum class HoleKind : uint8_t {
  Number,  ///< Int, Float, Bool: may stand in shell arithmetic
  Text,    ///< String, enum, Duration, Bytes and everything else with a text form
  File,    ///< File, Dir: a path
  Json,
  List,
  Map,
  Struct,
  Null,  ///< nothing known but that it may be null; treated as Text
};

struct Hole {
  HoleKind kind = HoleKind::Text;
  bool spliced = false;   ///< `~{xs...}`: a list as words, or an optional as one word or none
  bool optional = false;  ///< the type is `T?`
  uint32_t offset = 0;    ///< byte offset in Template::text where the hole stands
  std::string source;     ///< the expression as written, for messages; equal texts share one variable
};

struct Template {
  Interpreter interpreter = Interpreter::Sh;
  std::string text;         ///< the constant parts, dedented, holes removed
  std::vector<Hole> holes;  ///< by offset, which may repeat
};

/// E401 command word, E403 a place that cannot take a value, E404 a list without `...` (or a splice that is no word),
/// W491 another language parses the value.
enum class Code : uint8_t { E401, E403, E404, W491 };
std::string_view Name(Code code);

struct Finding {
  Code code = Code::E403;
  uint32_t hole = UINT32_MAX;  ///< index into Template::holes
  uint32_t offset = 0;         ///< in Template::text
  std::string message;
  std::string label;  ///< what stands under the carets
  std::string help;   ///< a line to type
};

/// How one hole's value reaches the interpreter.
enum class Carrier : uint8_t {
  Variable,  ///< a shell variable, from the environment (up to 64 KiB) or a private file; never exported to children
  Array,     ///< a bash array, from a NUL-separated private file
  Data,      ///< PY, R: an element of the list read from a private file before the first line
};

struct Binding {
  uint32_t hole = 0;
  uint32_t value = 0;  ///< the hole whose value is used: the first one with the same source text, else `hole` itself
  Carrier carrier = Carrier::Variable;
  bool optional = false;  ///< null is allowed: no word (Variable), no elements (Array), None or NULL (Data)
  std::string name;       ///< `JOBC_V0`; for Data the reference itself, `_job[0]` or `.job[[1]]`
  std::string source;     ///< the expression as written, for messages
};

/// From `lowered` on, the lowered text is a copy of the template's from `original` on, up to the next anchor. Text that
/// jobc wrote itself (prelude, references) maps to the place it stands for.
struct Anchor {
  uint32_t lowered = 0;
  uint32_t original = 0;
  bool copied = true;
};

/// Which script of a job it is; gives each its own variable names, as prologue and script share one shell.
enum class Part : uint8_t { Script, Prologue, Epilogue };

struct Lowered {
  Interpreter interpreter = Interpreter::Sh;
  Part part = Part::Script;
  std::string text;  ///< prelude and script; constant
  std::vector<Binding> bindings;
  std::vector<Anchor> positions;  ///< by `lowered`
  /// Lines that stand before the script's own first line: an interpreter's `line N` is line `N - line_offset` of the
  /// heredoc. 0 except in PY, where it is 1 if a value is used.
  uint32_t line_offset = 0;
  std::vector<Finding> findings;  ///< by hole; when one of them is an error, `text` must not be run

  bool has_errors() const;
  /// The place in Template::text that byte `offset` of `text` comes from.
  uint32_t OriginalOffset(uint32_t offset) const;
};

/// Linear in the text; never fails: a place the scanner does not understand is an E403 finding.
Lowered Lower(const Template& source, Part part = Part::Script);

/// What Bind() needs beside the text, as canonical JSON for the plan, and back.
std::string EncodeBindings(const Lowered& lowered);
Result<Lowered> DecodeBindings(Interpreter interpreter, std::string text, std::string_view json);

/// A value at the start of an attempt.
struct HoleValue {
  bool null = false;
  std::string text;                ///< shells: the one text form. PY, R: JSON (a Duration in seconds, Bytes a number)
  std::vector<std::string> words;  ///< shells, a spliced list: the elements' text forms
};

/// What the attempt needs. Paths in `argv` and `env` are `private_dir` + "/" + name of a file in `files`.
struct Launch {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> env;    ///< additions; no secrets of other values: see the docs
  std::vector<std::pair<std::string, std::string>> files;  ///< relative name, content; to be written with mode 0600
};

/// A lowered script with one value per hole (in the order of the holes; those of shared bindings are not looked at).
struct Bound {
  const Lowered* script = nullptr;  ///< must outlive the call
  const std::vector<HoleValue>* values = nullptr;

  explicit operator bool() const { return script != nullptr; }
};

/// Values above this many bytes go through a file: one environment string is limited to 128 KiB by Linux.
inline constexpr size_t kLargestVariable = 64 * 1024;

/// The launch of a script. `private_dir` is the attempt's private directory as the job sees it. The prologue (shell only)
/// runs in the same shell before a shell script, or before the other interpreter is exec'ed; the epilogue always after it,
/// with $JOB_EXIT. The exit code is that of prologue and script; an epilogue's failure is told on stderr and hides nothing.
/// Fails when a value has a NUL byte, is null where null has no meaning, or is not the JSON it should be.
Result<Launch> Bind(const Bound& script, const std::string& private_dir, const Bound& prologue = {},
                    const Bound& epilogue = {});

/// The same for `run = [...]`: without prologue and epilogue, `argv` as it is.
Result<Launch> WrapRun(std::vector<std::string> argv, const std::string& private_dir, const Bound& prologue,
                       const Bound& epilogue);

}  // namespace jobc::script
