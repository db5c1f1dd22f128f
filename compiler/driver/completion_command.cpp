// `jobc completion SHELL` prints a small script for the shell; at each press of TAB the script asks `jobc __complete` what
// may stand there, so that completion always knows the commands, options and runs of the jobc that is installed.
// `__complete SHELL -- WORDS` gets the words after `jobc` up to the cursor, the last one as far as it is typed, and answers
// with lines `candidate<TAB>description`, or one line that asks the shell for names of files: `:job-files`, `:files`,
// `:directories`. It never fails: where nothing is known it says nothing.
#include <fmt/format.h>

#include <algorithm>

#include "compiler/check/check.h"
#include "compiler/driver/load.h"
#include "compiler/driver/runs.h"
#include "ir/expand.h"
#include "runtime/run_reader.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

constexpr size_t kMostInstances = 500;
constexpr size_t kMostRuns = 50;

constexpr std::string_view kBash = R"SCRIPT(# bash completion for jobc. To use it now:  eval "$(jobc completion bash)"
# For every shell:  jobc completion bash > ~/.local/share/bash-completion/completions/jobc
_jobc() {
  local word raw=${COMP_WORDS[COMP_CWORD]} current line candidate quote='' prefix
  local -a words=()
  # `--name=value` and `name=value` are three words for bash, because of COMP_WORDBREAKS.
  local i joined=''
  for ((i = 1; i <= COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ $word == '=' && ${#words[@]} -gt 0 ]]; then
      words[-1]+='='
      joined=1
    elif [[ -n $joined ]]; then
      words[-1]+=$word
      joined=''
    else
      words+=("$word")
    fi
  done
  current=${words[-1]}
  [[ $raw == '=' ]] && raw=''
  prefix=${current%"$raw"}
  case $raw in
    \'* | \"*) quote=${raw:0:1} words[-1]=$prefix${raw:1} ;;
    *\\*) words[-1]=${words[-1]//\\/} ;;
  esac
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :job-files)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$raw"; compgen -f -X '!*.job' -- "$raw")
        [[ ${#COMPREPLY[@]} -gt 0 ]] || mapfile -t COMPREPLY < <(compgen -f -- "$raw")
        return ;;
      :files) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$raw"); return ;;
      :directories) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$raw"); return ;;
    esac
    candidate=${line%%$'\t'*}
    candidate=${candidate#"$prefix"}
    [[ $candidate == *= ]] && compopt -o nospace 2>/dev/null
    if [[ -z $quote && $candidate == *[\"\'\[\]\ ]* ]]; then printf -v candidate '%q' "$candidate"; fi
    COMPREPLY+=("$candidate")
  done < <("${COMP_WORDS[0]}" __complete bash -- "${words[@]}" 2>/dev/null)
}
complete -F _jobc jobc
)SCRIPT";

constexpr std::string_view kZsh = R"SCRIPT(#compdef jobc
# zsh completion for jobc. To use it now:  source <(jobc completion zsh)
# For every shell, with a directory of $fpath:  jobc completion zsh > ~/.zfunc/_jobc
_jobc() {
  local line
  local -a candidates assignments
  while IFS= read -r line; do
    case $line in
      :job-files) _alternative 'job:file:_files -g "*.job"' 'other:file:_files'; return ;;
      :files) _files; return ;;
      :directories) _files -/; return ;;
    esac
    # `name:description`, with the colons of the name escaped.
    line=${${line//\\/\\\\}//:/\\:}
    line=${line/$'\t'/:}
    if [[ ${line%%:*} == *= ]]; then assignments+=("$line"); else candidates+=("$line"); fi
  done < <("${(Q)words[1]}" __complete zsh -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)
  local found=1
  (( $#candidates )) && _describe -t values 'value' candidates && found=0
  (( $#assignments )) && _describe -t assignments 'name' assignments -S '' && found=0
  return found
}
if [[ $funcstack[1] == _jobc ]]; then _jobc "$@"; else compdef _jobc jobc; fi
)SCRIPT";

constexpr std::string_view kFish = R"SCRIPT(# fish completion for jobc. To use it now:  jobc completion fish | source
# For every shell:  jobc completion fish > ~/.config/fish/completions/jobc.fish
function __jobc_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l current $words[-1]
    for line in ($words[1] __complete fish -- $words[2..-1] 2>/dev/null)
        switch $line
            case :job-files
                __fish_complete_suffix $current .job
            case :files
                __fish_complete_path $current
            case :directories
                __fish_complete_directories $current
            case '*'
                echo $line
        end
    end
end
complete -c jobc -f -a '(__jobc_complete)'
)SCRIPT";

std::vector<std::string_view> ChoicesOf(std::string_view placeholder) {
  std::vector<std::string_view> words;
  while (true) {
    const size_t bar = placeholder.find('|');
    words.push_back(placeholder.substr(0, bar));
    if (bar == std::string_view::npos) return words;
    placeholder.remove_prefix(bar + 1);
  }
}

/// What was typed, up to the cursor, understood as far as it goes: wrong words are passed over.
class Completion {
 public:
  explicit Completion(const std::vector<std::string>& words) : current_(words.empty() ? "" : words.back()) {
    bool only_arguments = false;
    for (size_t i = 0; i + 1 < words.size(); ++i) {
      const std::string& word = words[i];
      if (!only_arguments && word == "--") {
        only_arguments = true;
      } else if (!only_arguments && word.size() > 1 && word.starts_with('-')) {
        const size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
        const OptionSpec* const option = FindOption(word.substr(0, word.starts_with("--") ? equals : 2));
        if (option == nullptr || option->value == ValueKind::None || option->value_optional) continue;
        std::string value;
        if (equals != std::string::npos) {
          value = word.substr(equals + 1);
        } else if (!word.starts_with("--") && word.size() > 2) {
          value = word.substr(2);
        } else if (i + 2 == words.size()) {
          wanted_ = option;
          return;
        } else {
          value = words[++i];
        }
        if (option->name == "--state") state_ = value;
      } else if (command_ == nullptr) {
        command_ = FindCommand(word);
        if (command_ == nullptr) return;
      } else {
        arguments_.push_back(word);
      }
    }
    only_arguments_ = only_arguments;
    known_ = true;
  }

  std::string Answer() {
    if (wanted_ != nullptr) {
      OfOption(*wanted_, "", current_);
      return std::move(out_);
    }
    if (!known_) return {};
    if (!only_arguments_ && current_.starts_with('-')) {
      const size_t equals = current_.starts_with("--") ? current_.find('=') : std::string::npos;
      if (equals == std::string::npos) {
        Options();
      } else if (const OptionSpec* const option = FindOption(current_.substr(0, equals)); option != nullptr && option->value != ValueKind::None) {
        OfOption(*option, current_.substr(0, equals + 1), current_.substr(equals + 1));
      }
      return std::move(out_);
    }
    if (command_ == nullptr) {
      CommandNames();
      return std::move(out_);
    }
    const std::span<const ArgumentSpec> specs = command_->arguments;
    if (specs.empty()) return {};
    const bool beyond = arguments_.size() >= specs.size();
    if (beyond && !specs.back().repeated) return {};
    const size_t at = beyond ? specs.size() - 1 : arguments_.size();
    const ArgumentSpec& spec = specs[at];
    Of(spec.value, spec.name, "", current_);
    // `logs [RUN] [JOB]`: a job alone is one of the last run.
    if (spec.value == ValueKind::Run && spec.optional && at + 1 < specs.size() && specs[at + 1].value == ValueKind::Job) Jobs("");
    return std::move(out_);
  }

 private:
  const OptionSpec* FindOption(std::string_view name) const {
    for (const std::span<const OptionSpec> list : {command_ != nullptr ? command_->options : std::span<const OptionSpec>(), GlobalOptions()}) {
      for (const OptionSpec& option : list) {
        if (option.name == name || (!option.short_name.empty() && option.short_name == name)) return &option;
      }
    }
    return nullptr;
  }

  /// Kept if it goes on from what is typed. A line break cannot stand in an answer.
  void Add(std::string_view candidate, std::string_view description = {}) {
    if (!candidate.starts_with(current_) || candidate.find_first_of("\n\t") != std::string_view::npos) return;
    out_ += candidate;
    if (!description.empty()) out_ += fmt::format("\t{}", description.substr(0, description.find('\n')));
    out_ += '\n';
  }

  void CommandNames() {
    for (const CommandSpec& command : Commands()) Add(command.name, command.summary);
  }

  void Options() {
    for (const std::span<const OptionSpec> list : {command_ != nullptr ? command_->options : std::span<const OptionSpec>(), GlobalOptions()}) {
      for (const OptionSpec& option : list) {
        Add(option.name, option.help);
        if (current_ == option.short_name) Add(option.short_name, option.help);
      }
    }
    if (command_ == nullptr) Add("--version", "print the version of jobc");
  }

  void OfOption(const OptionSpec& option, const std::string& prefix, const std::string& typed) {
    if (option.name == "--profile") {
      for (const Profile& profile : ModelOfFile().profiles) Add(prefix + profile.name, profile.is_default ? "the default" : "");
      Add(prefix + "none", "no profile");
      return;
    }
    Of(option.value, option.placeholder, prefix, typed);
  }

  void Of(ValueKind kind, std::string_view placeholder, const std::string& prefix, const std::string& typed) {
    switch (kind) {
      case ValueKind::Choice:
        for (const std::string_view word : ChoicesOf(placeholder)) Add(prefix + std::string(word));
        break;
      case ValueKind::Command: CommandNames(); break;
      case ValueKind::Code: {
        std::string_view last;
        for (const DiagnosticKind* each : AllDiagnosticKinds()) {
          if (each->code != last) Add(prefix + std::string(each->code));
          last = each->code;
        }
        // Words that may stand in place of a code: `CODE|run|skip|value`.
        for (const std::string_view word : ChoicesOf(placeholder)) {
          if (word != ChoicesOf(placeholder).front()) Add(prefix + std::string(word));
        }
        break;
      }
      case ValueKind::File:
        out_ += placeholder == "FILE" && prefix.empty() && wanted_ == nullptr ? ":job-files\n" : ":files\n";
        break;
      case ValueKind::Directory: out_ += ":directories\n"; break;
      case ValueKind::Parameter: Parameters(prefix, typed); break;
      case ValueKind::Run: Runs(prefix); break;
      case ValueKind::Job: Jobs(arguments_.empty() || command_->name == "explain" ? "" : arguments_.front()); break;
      case ValueKind::None:
      case ValueKind::Text:
      case ValueKind::Int:
      case ValueKind::Duration: break;
    }
  }

  /// The parameters of the file that was named: `day=`, then the cases of an enum and `true`, `false`.
  void Parameters(const std::string& prefix, const std::string& typed) {
    const Model& model = ModelOfFile();
    const ir::Program& program = model.plan.program;
    const size_t equals = typed.find('=');
    for (const ir::Param& param : program.params) {
      if (equals == std::string::npos) {
        Add(prefix + param.name + "=", param.doc.empty() ? program.types.Show(param.type) : param.doc);
        continue;
      }
      if (typed.substr(0, equals) != param.name) continue;
      const ir::TypeNode& type = program.types[program.types.NonNull(param.type)];
      const std::string before = prefix + param.name + "=";
      if (type.kind == ir::TypeKind::Enum) {
        for (const std::string& each : program.types[ir::EnumId{type.def}].cases) Add(before + each);
      } else if (type.kind == ir::TypeKind::Bool) {
        Add(before + "true");
        Add(before + "false");
      }
    }
  }

  std::optional<std::string> State() const {
    Result<std::string> state = FindStateDir(WorkingDirectory(), state_);
    if (!state.ok()) return std::nullopt;
    return *state;
  }

  void Runs(const std::string& prefix) {
    const std::optional<std::string> state = State();
    if (!state) return;
    std::vector<std::string> ids = ListRunIds(*state);
    std::reverse(ids.begin(), ids.end());
    if (ids.size() > kMostRuns) ids.resize(kMostRuns);
    for (const std::string& id : ids) {
      Result<RunSummary> run = SummarizeRun(*state, id);
      const std::string text = run.ok() ? fmt::format("{}  {}  {}", TimeText(run->created_ms), run->status, run->source) : std::string("unreadable");
      if (run.ok() && !run->name.empty()) Add(prefix + run->name, text);
      Add(prefix + id, text);
    }
  }

  /// Jobs of a run; where a `[` is typed, the instances of that job.
  void Jobs(const std::string& run) {
    const std::optional<std::string> state = State();
    if (!state) return;
    Result<std::string> id = ResolveRun(*state, run);
    if (!id.ok()) return;
    Result<std::unique_ptr<RunReader>> opened = RunReader::Open(*state, *id);
    if (!opened.ok()) return;
    const RunReader& reader = **opened;
    for (uint32_t job = 0; job < reader.plan().jobs.size(); ++job) {
      const ir::Job& declared = reader.plan().jobs[job];
      if (!current_.starts_with(declared.address + "[")) Add(declared.address, declared.doc);
      if (declared.domain.single() || !current_.starts_with(declared.address)) continue;
      for (uint32_t i = 0; i < std::min<uint64_t>(reader.size(job), kMostInstances); ++i) {
        Add(reader.Address({job, i}), StateName(reader.state({job, i})));
      }
    }
  }

  const Model& ModelOfFile() {
    for (const std::string& word : arguments_) {
      if (model_ || !word.ends_with(".job")) continue;
      LoadedRoot root = LoadRoot(word, sources_);
      if (!root.source) continue;
      Diagnostics ignored;
      model_ = Check(*root.source, sources_, ignored);
    }
    if (!model_) model_.emplace();
    return *model_;
  }

  const std::string current_;
  const CommandSpec* command_ = nullptr;
  const OptionSpec* wanted_ = nullptr;   ///< the option whose value is being typed as a word of its own
  std::vector<std::string> arguments_;   ///< before the cursor
  std::string state_;
  bool only_arguments_ = false;
  bool known_ = false;                   ///< the words before the cursor make sense
  SourceManager sources_;
  std::optional<Model> model_;
  std::string out_;
};

}  // namespace

int RunCompletion(const Invocation& invocation, Terminal& terminal) {
  const std::string& shell = invocation.arguments().front();
  terminal.Out(shell == "bash" ? kBash : shell == "zsh" ? kZsh : kFish);
  return kExitOk;
}

int RunComplete(const Invocation& invocation, Terminal& terminal) {
  const std::vector<std::string>& words = invocation.arguments();
  terminal.Out(Completion({words.begin() + 1, words.end()}).Answer());
  return kExitOk;
}

}  // namespace jobc
