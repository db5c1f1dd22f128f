#include <algorithm>
#include <nlohmann/json.hpp>

#include "compiler/script/rds.h"
#include "compiler/script/script.h"

namespace jobc::script {
namespace {

using Json = nlohmann::ordered_json;

// Linux: one string of argv or environment is at most 128 KiB, both together a quarter of the stack limit (2 MiB by default).
constexpr size_t kLargestCommandText = 64 * 1024;
constexpr size_t kLargestEnvironment = 256 * 1024;
constexpr int kMaxDepth = 256;

/// A word that a POSIX shell reads as exactly `text`.
std::string Quoted(std::string_view text) {
  std::string quoted = "'";
  for (char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

std::string QuotedWords(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + Quoted(word);
  return line;
}

std::vector<std::string> ShellCommand(Interpreter interpreter) {
  if (interpreter == Interpreter::Bash) return {"bash", "-euo", "pipefail"};
  return {"sh", "-eu"};
}

const char* FileName(const Lowered& script) {
  static constexpr const char* kNames[3][3] = {{"script.sh", "script.py", "script.R"},
                                               {"prologue.sh", "prologue.py", "prologue.R"},
                                               {"epilogue.sh", "epilogue.py", "epilogue.R"}};
  int kind = script.interpreter == Interpreter::Python ? 1 : script.interpreter == Interpreter::R ? 2 : 0;
  return kNames[static_cast<int>(script.part)][kind];
}

bool HasNul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

/// Collects what all parts of one attempt need.
struct Preparation {
  std::string private_dir;
  Launch launch;
  size_t environment = 0;
  std::string error;

  std::string Path(std::string_view name) const { return private_dir + "/" + std::string(name); }
  std::string AddFile(std::string name, std::string content) {
    std::string path = Path(name);
    launch.files.emplace_back(std::move(name), std::move(content));
    return path;
  }
  void Fail(const Binding& binding, const std::string& what) {
    if (error.empty()) error = "the value of `~{" + binding.source + "}` " + what;
  }

  /// Adds environment and files for the values; gives the names of the variables it added.
  std::vector<std::string> Values(const Bound& bound) {
    const Lowered& script = *bound.script;
    const std::vector<HoleValue>& values = *bound.values;
    size_t first = launch.env.size();
    if (values.size() != script.bindings.size()) {
      error = "a script with " + std::to_string(script.bindings.size()) + " values was given " + std::to_string(values.size());
      return {};
    }
    Json data = Json::array();
    std::string data_text;
    bool has_data = false;
    for (const Binding& binding : script.bindings) {
      if (binding.value != binding.hole) continue;
      const HoleValue& value = values[binding.hole];
      switch (binding.carrier) {
        case Carrier::Variable: Variable(binding, value); break;
        case Carrier::Array: Array(binding, value); break;
        case Carrier::Data: {
          Json parsed = value.null ? Json() : Json::parse(value.text, nullptr, false);
          if (parsed.is_discarded()) {
            Fail(binding, "is not valid JSON");
          } else if (Holds(parsed, 0) != nullptr) {
            Fail(binding, Holds(parsed, 0));
          }
          data_text += has_data ? "," : "";
          data_text += value.null ? "null" : value.text;
          data.push_back(std::move(parsed));
          has_data = true;
          break;
        }
      }
    }
    if (has_data && error.empty()) Data(script, data, data_text);
    std::vector<std::string> names;
    for (size_t i = first; i < launch.env.size(); ++i) names.push_back(launch.env[i].first);
    return names;
  }

  /// What makes a value unfit for PY and R, or null.
  static const char* Holds(const Json& value, int depth) {
    if (depth > kMaxDepth) return "is nested more than 256 levels deep";
    if (value.is_string() && HasNul(value.get_ref<const std::string&>())) return "holds a NUL character";
    if (value.is_object()) {
      for (const auto& [key, element] : value.items()) {
        if (HasNul(key)) return "holds a NUL character";
      }
    }
    if (value.is_structured()) {
      for (const Json& element : value) {
        if (const char* what = Holds(element, depth + 1)) return what;
      }
    }
    return nullptr;
  }

  void Variable(const Binding& binding, const HoleValue& value) {
    if (value.null) {
      if (!binding.optional) Fail(binding, "is null: only a splice, `~{" + binding.source + "...}`, may be null");
      return;
    }
    if (HasNul(value.text)) {
      Fail(binding, "holds a NUL byte, which no shell variable can hold");
      return;
    }
    if (value.text.size() > kLargestVariable || environment + value.text.size() > kLargestEnvironment) {
      launch.env.emplace_back(binding.name + "_FILE", AddFile(binding.name, value.text));
    } else {
      environment += value.text.size();
      launch.env.emplace_back(binding.name, value.text);
    }
  }

  void Array(const Binding& binding, const HoleValue& value) {
    std::string content;
    for (const std::string& word : value.words) {
      if (HasNul(word)) Fail(binding, "holds a NUL byte, which no shell variable can hold");
      content += word;
      content += '\0';
    }
    launch.env.emplace_back(binding.name + "_FILE",
                            value.null || value.words.empty() ? "/dev/null" : AddFile(binding.name, std::move(content)));
  }

  void Data(const Lowered& script, const Json& data, const std::string& data_text) {
    const bool epilogue = script.part == Part::Epilogue;
    const std::string variable = epilogue ? "JOBC_EPILOGUE_VALUES" : "JOBC_VALUES";
    const std::string name = epilogue ? "epilogue_values" : "values";
    if (script.interpreter == Interpreter::Python) {
      launch.env.emplace_back(variable, AddFile(name + ".json", "[" + data_text + "]\n"));
      return;
    }
    Result<std::string> rds = ToRds(data);
    if (!rds) {
      error = rds.error().message;
      return;
    }
    launch.env.emplace_back(variable, AddFile(name + ".rds", std::move(rds).value()));
  }

  /// The command that runs one script as a program of its own. Shell scripts go as `-c` text where that is allowed: it
  /// saves a file, and `script: line 3` in messages is line 3 of the heredoc.
  std::vector<std::string> Command(const Lowered& script, bool as_file) {
    if (script.interpreter == Interpreter::Python) return {"python3", AddFile(FileName(script), script.text)};
    if (script.interpreter == Interpreter::R) return {"Rscript", AddFile(FileName(script), script.text)};
    std::vector<std::string> argv = ShellCommand(script.interpreter);
    if (as_file || script.text.size() > kLargestCommandText) {
      argv.push_back(AddFile(FileName(script), script.text));
    } else {
      argv.push_back("-c");
      // A text that begins with a dash would be taken as an option.
      bool dash = !script.text.empty() && (script.text[0] == '-' || script.text[0] == '+');
      argv.push_back((dash ? " " : "") + script.text);
      argv.push_back("script");
    }
    return argv;
  }
};

/// Sources `script` in the shell at hand, with the options its tag promises.
std::string SourceLines(Preparation& p, const Lowered& script, bool in_bash) {
  std::string options = "set -eu\n";
  if (in_bash) options = script.interpreter == Interpreter::Bash ? "set -euo pipefail\n" : "set -eu +o pipefail\n";
  return options + ". " + Quoted(p.AddFile(FileName(script), script.text)) + "\n";
}

/// `argv`, or the shell script `main` when it is to share the prologue's shell.
Result<Launch> Wrap(Preparation p, std::vector<std::string> argv, const Bound& main, const Bound& prologue, const Bound& epilogue) {
  std::vector<std::string> main_names, epilogue_names;
  auto add = [](std::vector<std::string>& all, std::vector<std::string> more) {
    all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  };
  if (main) add(main_names, p.Values(main));
  bool shell_main = main && IsShell(main.script->interpreter);
  if (prologue) {
    if (!IsShell(prologue.script->interpreter)) return Error{"a prologue must be an SH or BASH script"};
    add(main_names, p.Values(prologue));
    bool bash = prologue.script->interpreter == Interpreter::Bash ||
                (shell_main && main.script->interpreter == Interpreter::Bash);
    std::string text = SourceLines(p, *prologue.script, bash);
    if (shell_main) {
      text += SourceLines(p, *main.script, bash);
    } else {
      if (main) argv = p.Command(*main.script, true);
      text += "exec " + QuotedWords(argv) + "\n";
    }
    argv = {bash ? "bash" : "sh", p.AddFile("with_prologue.sh", std::move(text))};
  } else if (main) {
    argv = p.Command(*main.script, static_cast<bool>(epilogue));
  }
  if (epilogue) {
    add(epilogue_names, p.Values(epilogue));
    std::vector<std::string> last = p.Command(*epilogue.script, true);
    auto unset = [](const std::vector<std::string>& names) {
      std::string line;
      for (const std::string& name : names) line += " " + name;
      return line.empty() ? std::string(":") : "unset" + line;
    };
    // The job runs in the background because only `wait` lets a shell answer to a signal: docker and schedulers send TERM
    // to this process alone. A `wait` that a signal interrupted is repeated.
    std::string text =
        "jobc_pid= jobc_signal= JOB_EXIT=\n"
        "trap 'jobc_signal=1; [ -z \"$jobc_pid\" ] || kill -s TERM \"$jobc_pid\" 2>/dev/null || :' TERM INT HUP\n"
        "( trap - TERM INT HUP QUIT; " + unset(epilogue_names) + "; exec " + QuotedWords(argv) + " ) &\n"
        "jobc_pid=$!\n"
        "[ -z \"$jobc_signal\" ] || kill -s TERM \"$jobc_pid\" 2>/dev/null || :\n"
        "exec 9>&2 2>/dev/null\n"  // shells tell of a job that a signal ended, bash with its whole command line
        "while :; do\n"
        "  jobc_signal=\n"
        "  wait \"$jobc_pid\"\n"
        "  jobc_status=$?\n"
        // Where sh is bash (seen with 5.2), `wait` may lose the status of a job that ends while the trap runs, and gives -1.
        "  case $jobc_status in -*) kill -0 \"$jobc_pid\" && continue; jobc_status=143;; esac\n"
        "  [ -n \"$JOB_EXIT\" ] && [ \"$jobc_status\" = 127 ] || JOB_EXIT=$jobc_status\n"
        "  [ -n \"$jobc_signal\" ] || break\n"
        "done\n"
        "exec 2>&9 9>&-\n"
        "trap : TERM INT HUP\n" +
        unset(main_names) + "\n"
        "export JOB_EXIT\n" +
        QuotedWords(last) + " ||\n"
        "  echo \"jobc: the epilogue ended with exit code $?, the job keeps its own, $JOB_EXIT\" >&2\n"
        "exit \"$JOB_EXIT\"\n";
    argv = {"sh", p.AddFile("with_epilogue.sh", std::move(text))};
  }
  if (!p.error.empty()) return Error{p.error};
  p.launch.argv = std::move(argv);
  return std::move(p.launch);
}

}  // namespace

Result<Launch> Bind(const Bound& script, const std::string& private_dir, const Bound& prologue, const Bound& epilogue) {
  JOBC_CHECK(script);
  Preparation preparation;
  preparation.private_dir = private_dir;
  return Wrap(std::move(preparation), {}, script, prologue, epilogue);
}

Result<Launch> WrapRun(std::vector<std::string> argv, const std::string& private_dir, const Bound& prologue, const Bound& epilogue) {
  Preparation preparation;
  preparation.private_dir = private_dir;
  return Wrap(std::move(preparation), std::move(argv), {}, prologue, epilogue);
}

}  // namespace jobc::script
