// The shell half of the lowering: one pass over a sh or bash script that knows, for every hole, in which of the shell's
// contexts it stands. It follows POSIX.1-2017 XCU 2 (token recognition, quoting, here-documents, grammar) with bash's
// additions, but builds no tree: what is kept is the nesting (by recursion, limited to kMaxDepth) and a few facts on the
// simple command at hand. It never looks back, so it is linear. When it meets what it does not understand it stops and
// every hole from the beginning of that outermost command on is E403.
#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "compiler/script/scan.h"

namespace jobc::script {
namespace {

using std::string_view;

enum class Quote : uint8_t { Bare, Double, Single };

/// A hole that is a direct part of a word (not inside a command substitution of it).
struct Use {
  uint32_t hole;
  Quote quote;
  size_t at;  // bytes of Word::literal before it
};

struct Word {
  std::string literal;  // after quote removal, without what is expanded
  bool constant = true;
  bool quoted = false;
  bool subscripted = false;
  size_t assign = std::string::npos;  // just behind an unquoted `NAME=` at the beginning
  std::string name;                   // that NAME
  std::vector<Use> uses;

  bool IsReserved(string_view word) const { return constant && !quoted && literal == word; }
  bool OnlyAHole() const { return uses.size() == 1 && literal.empty(); }
};

enum class Role : uint8_t {
  Command,   // may be an assignment or a reserved word
  Argument,  // of a command
  Declared,  // of a declaration builtin: assignments, arrays too
  Element,   // of a word list: for … in, an array
  Target,    // of a redirection
  Operand,   // of case, [[ ]]
  Pattern,   // of case, right of == in [[ ]]
  Regex,     // right of =~ in [[ ]]
  Name,      // of a for variable, a function
};

/// What reads a command's here-document.
enum class Reader : uint8_t { Data, Shell, Program };

struct HereDoc {
  std::string delimiter;
  bool strip_tabs = false;
  bool quoted = false;
  Reader reader = Reader::Data;
  std::string reader_name;
};

/// A command that runs another one given as its operands.
struct Wrapper {
  string_view name;
  string_view short_options;                // those that take an argument
  std::array<string_view, 6> long_options;  // likewise, when not written with `=`
  int operands = 0;                         // before the command
  bool assignments = false;
};

constexpr Wrapper kWrappers[] = {
    {"env", "uCS", {"--unset", "--chdir"}, 0, true},
    {"exec", "a", {}, 0, false},
    {"command", "", {}, 0, false},
    {"builtin", "", {}, 0, false},
    {"nohup", "", {}, 0, false},
    {"setsid", "", {}, 0, false},
    {"nice", "n", {"--adjustment"}, 0, false},
    {"ionice", "cnpPu", {"--class", "--classdata"}, 0, false},
    {"chrt", "TPD", {}, 1, false},
    {"timeout", "ks", {"--kill-after", "--signal"}, 1, false},
    {"stdbuf", "ioe", {"--input", "--output", "--error"}, 0, false},
    {"sudo", "ugpCrthDRTU", {"--user", "--group", "--prompt", "--host", "--chdir", "--role"}, 0, true},
    {"doas", "uCa", {}, 0, false},
    {"xargs", "aEIdLnPs", {"--arg-file", "--delimiter", "--max-lines", "--max-args", "--max-procs", "--replace"}, 0, false},
    {"chroot", "", {}, 1, false},
    {"numactl", "NmCpi", {"--cpunodebind", "--membind", "--physcpubind", "--interleave", "--preferred"}, 0, false},
};

constexpr string_view kShells[] = {"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "rbash", "fish", "csh", "tcsh"};

bool IsShellName(string_view name) { return std::find(std::begin(kShells), std::end(kShells), name) != std::end(kShells); }

bool IsOneOf(string_view name, std::initializer_list<string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

string_view BaseName(string_view path) {
  size_t slash = path.rfind('/');
  return slash == string_view::npos ? path : path.substr(slash + 1);
}

/// A program that takes a program text in its own language as an argument.
struct Language {
  string_view code;          // short options whose argument is the text
  string_view arguments;     // other short options with an argument
  bool first_operand;        // without those, the first operand is the text
  string_view no_operand;    // short options that take the text from a file: then no operand is
  bool runs_stdin;           // without operand the text is standard input
};

const Language* LanguageOf(string_view name) {
  static constexpr Language kAwk = {"", "vFil", true, "fE", false};
  static constexpr Language kSed = {"e", "l", true, "f", false};
  static constexpr Language kJq = {"", "L", true, "f", false};
  static constexpr Language kPerl = {"eE", "I", false, "", true};
  static constexpr Language kPython = {"c", "mWX", false, "", true};
  static constexpr Language kRuby = {"e", "rIC", false, "", true};
  static constexpr Language kNode = {"ep", "r", false, "", true};
  static constexpr Language kR = {"e", "f", false, "", true};
  if (IsOneOf(name, {"awk", "gawk", "mawk", "nawk", "original-awk"})) return &kAwk;
  if (IsOneOf(name, {"sed", "gsed"})) return &kSed;
  if (IsOneOf(name, {"jq", "gojq", "jaq", "yq"})) return &kJq;
  if (name == "perl") return &kPerl;
  if (name.substr(0, 6) == "python" || name.substr(0, 4) == "pypy") return &kPython;
  if (name == "ruby") return &kRuby;
  if (IsOneOf(name, {"node", "nodejs"})) return &kNode;
  if (IsOneOf(name, {"Rscript", "R"})) return &kR;
  return nullptr;
}

bool IsDeclaration(string_view name) {
  return IsOneOf(name, {"declare", "typeset", "local", "export", "readonly"});
}

/// The facts on the simple command at hand.
struct Command {
  bool started = false;  // a word or a redirection was seen
  bool named = false;    // its command word was seen
  std::string name;      // base name of the command word, behind wrappers; empty if not constant
  const Wrapper* wrapper = nullptr;
  int leading = 0;          // operands of the wrapper still to come
  bool skip_next = false;   // the next word is an option's argument
  bool lookup = false;      // `command -v`
  bool options_done = false;
  int arguments = 0;
  int operands = 0;
  std::string previous;     // the literal of the word before
  // A shell among its words, and its `-c`.
  bool shell = false;
  bool shell_operand = false;
  bool shell_skip = false;
  bool shell_stdin = false;  // `-s`
  bool code_next = false;
  bool code_given = false;
  // awk, sed, jq, perl, …
  const Language* language = nullptr;
  bool language_skip = false;
  int language_skips = 0;
  bool language_code_next = false;
  bool language_text_done = false;
  // declare, export, …
  bool attribute_array = false, attribute_integer = false, attribute_reference = false;
  // `read -p x`: the option's argument is a value, everything else a name
  bool value_next = false;
  std::vector<Use> stdin_uses;     // here-strings
  std::vector<size_t> here_docs;   // indices into the pending ones
};

enum class Ended : uint8_t { Range, Paren, CaseItem, Esac };
enum class Until : uint8_t { Range, Paren, CaseItem };

/// Around a `${…}`, `$(…)`, `$((…))`: decides how a hole in a default value is written.
enum class Around : uint8_t { Bare, Double, HereDoc, Arithmetic };

class ShellScanner {
 public:
  ShellScanner(const std::vector<std::string>& names, Scan& scan)
      : scan_(scan), names_(names), bash_(scan.source.interpreter == Interpreter::Bash) {}

  void Run() {
    const std::vector<Unit> units = Units(scan_.source);
    in_ = {&units, 0, units.size()};
    List(Until::Range);
    if (failed_) {
      for (uint32_t i = 0; i < scan_.source.holes.size(); ++i) {
        if (!scan_.seen[i] || scan_.hole(i).offset >= top_) NotUnderstood(i);
      }
    }
    for (uint32_t i = 0; i < scan_.source.holes.size(); ++i) {
      if (!scan_.seen[i]) NotUnderstood(i);
    }
    CheckAttributes();
  }

 private:
  struct Input {
    const std::vector<Unit>* units = nullptr;
    size_t pos = 0;
    size_t end = 0;
  };
  struct Nested {  // counts the depth
    explicit Nested(ShellScanner& scanner) : scanner(scanner) {
      if (++scanner.depth_ > kMaxDepth) scanner.Fail("the script is nested too deeply");
    }
    ~Nested() { --scanner.depth_; }
    ShellScanner& scanner;
  };

  // ---- units
  bool AtEnd() const { return failed_ || in_.pos >= in_.end; }
  uint32_t Peek(size_t ahead = 0) const {
    return failed_ || in_.pos + ahead >= in_.end ? kEnd : (*in_.units)[in_.pos + ahead].value;
  }
  uint32_t Next() { return (*in_.units)[in_.pos++].value; }
  uint32_t Offset() const {
    if (in_.pos < in_.end) return (*in_.units)[in_.pos].offset;
    return static_cast<uint32_t>(scan_.source.text.size());
  }
  bool Take(char c) {
    if (Peek() != static_cast<unsigned char>(c)) return false;
    ++in_.pos;
    return true;
  }
  void Fail(std::string reason) {
    if (!failed_) reason_ = std::move(reason);
    failed_ = true;
  }

  // ---- findings
  void Refuse(uint32_t hole, std::string message, std::string label, std::string help) {
    scan_.Report(Code::E403, hole, std::move(message), std::move(label), std::move(help));
  }
  std::string Written(uint32_t hole) const { return scan_.Written(hole); }
  std::string AssignHelp(uint32_t hole) const {
    return "give it to a variable on a line of its own and use that:  value=" + Written(hole);
  }
  void NotUnderstood(uint32_t hole) {
    Refuse(hole, "the place of `" + Written(hole) + "` in the script is not understood",
         reason_.empty() ? "this part of the script could not be followed" : reason_, AssignHelp(hole));
  }
  void ParsesAgain(const Use& use, const std::string& who, const std::string& help) {
    Refuse(use.hole, "`" + who + "` parses its operands as shell code, so a value cannot stand there",
         "`" + Written(use.hole) + "` would be parsed again", help);
  }

  // ---- holes
  /// False (and reported) when the value has no text form here.
  bool CheckKind(uint32_t hole, bool place_of_words) {
    const Hole& h = scan_.hole(hole);
    const std::string& s = h.source;
    if (h.kind == HoleKind::Map || h.kind == HoleKind::Struct) {
      bool map = h.kind == HoleKind::Map;
      scan_.Report(Code::E404, hole, std::string("a ") + (map ? "map" : "struct") + " has no text form",
                   "`" + Written(hole) + "` is a " + (map ? "map" : "struct"),
                   map ? "take one value:  ~{" + s + "[\"key\"]}" : "take one field:  ~{" + s + ".field}");
      return false;
    }
    if (h.kind == HoleKind::List && !h.spliced) {
      scan_.Report(Code::E404, hole, "a list needs `...` to become words",
                   "`" + Written(hole) + "` is a list",
                   bash_ && place_of_words ? "~{" + s + "...}" : "~{join(" + s + ", \" \")}");
      return false;
    }
    if (h.spliced && h.kind == HoleKind::List && !bash_) {
      scan_.Report(Code::E404, hole, "`sh` has no arrays, so a list cannot be spliced in an SH script",
                   "`" + Written(hole) + "` is a list", "use a BASH script:  script = <<~BASH");
      return false;
    }
    if (h.spliced && !place_of_words) {
      scan_.Report(Code::E404, hole, "a splice must be a word of its own",
                   "`" + Written(hole) + "` stands where one text is expected",
                   h.kind == HoleKind::List ? "~{join(" + s + ", \" \")}" : "~{" + s + " ?? \"\"}");
      return false;
    }
    return true;
  }
  const std::string& NameOf(uint32_t hole) const { return names_[hole]; }
  std::string Plain(uint32_t hole) const { return "${" + NameOf(hole) + "}"; }

  /// A hole as a part of a word, outside quotes.
  void Bare(uint32_t hole, bool place_of_words) {
    scan_.seen[hole] = true;
    if (!CheckKind(hole, place_of_words)) return;
    const Hole& h = scan_.hole(hole);
    const std::string& n = NameOf(hole);
    if (!h.spliced) {
      scan_.references[hole] = "\"${" + n + "}\"";
    } else if (h.kind == HoleKind::List) {
      // The `+` form because an empty array counts as unset for `set -u` before bash 4.4.
      scan_.references[hole] = "${" + n + "[@]+\"${" + n + "[@]}\"}";
    } else {
      scan_.references[hole] = "${" + n + "+\"${" + n + "}\"}";
    }
  }
  void InDouble(uint32_t hole) {
    scan_.seen[hole] = true;
    if (CheckKind(hole, false)) scan_.references[hole] = Plain(hole);
  }
  void InSingle(uint32_t hole) {
    scan_.seen[hole] = true;
    if (CheckKind(hole, false)) scan_.references[hole] = "'\"${" + NameOf(hole) + "}\"'";
  }
  void InArithmetic(uint32_t hole, uint32_t before, const char* where) {
    scan_.seen[hole] = true;
    if (!CheckKind(hole, false)) return;
    if (!NumberOnly(hole, where)) return;
    // `1-~{n}` with a negative n must not become `--`.
    bool sign = before == '-' || before == '+';
    scan_.references[hole] = sign ? "(" + Plain(hole) + ")" : Plain(hole);
  }
  bool NumberOnly(uint32_t hole, const char* where) {
    if (scan_.hole(hole).kind == HoleKind::Number) return true;
    Refuse(hole, std::string("the shell evaluates ") + where + " as arithmetic, where only an Int, Float or Bool can stand",
         "`" + Written(hole) + "` is text, which could run code there", AssignHelp(hole) + "  (or declare it as Int)");
    return false;
  }

  // ---- blanks
  void SkipBlanks() {
    while (!AtEnd()) {
      uint32_t c = Peek();
      if (c == ' ' || c == '\t') {
        ++in_.pos;
      } else if (c == '\\' && Peek(1) == '\n') {
        in_.pos += 2;
      } else {
        return;
      }
    }
  }
  void SkipBlanksAndLines() {
    while (!AtEnd()) {
      SkipBlanks();
      if (Peek() == '\n') {
        NewLine();
      } else if (Peek() == '#') {
        Comment();
      } else {
        return;
      }
    }
  }
  void Comment() {
    while (!AtEnd() && Peek() != '\n') {
      uint32_t c = Next();
      if (IsHole(c)) {
        Refuse(HoleOf(c), "a comment cannot take a value", "`" + Written(HoleOf(c)) + "` stands in a comment",
             "take it out, or write it as text:  ~" + Written(HoleOf(c)));
      }
    }
  }

  // ---- lists of commands
  Ended List(Until until) {
    Nested nested(*this);
    Command command;
    while (!AtEnd()) {
      SkipBlanks();
      if (AtEnd()) break;
      if (depth_ == 1 && !command.started) top_ = Offset();
      uint32_t c = Peek();
      if (c == '\n') {
        EndCommand(command);
        NewLine();
      } else if (c == '#') {
        Comment();
      } else if (c == ';') {
        if (Peek(1) == ';' || Peek(1) == '&') {
          EndCommand(command);
          if (until == Until::CaseItem) return Ended::CaseItem;
          Fail("`;;` outside of `case`");
          break;
        }
        ++in_.pos;
        EndCommand(command);
      } else if (c == '&' && Peek(1) == '>' && bash_) {
        Redirection(command);
      } else if (c == '&') {
        ++in_.pos;
        Take('&');
        EndCommand(command);
      } else if (c == '|') {
        ++in_.pos;
        if (Take('|')) {
          EndCommand(command);
        } else {
          Take('&');
          Pipe(command);
        }
      } else if (c == '(') {
        if (!command.started) {
          command.started = true;
          if (bash_ && Peek(1) == '(') {
            in_.pos += 2;
            Arithmetic(')', true, "`(( ))`");
          } else {
            ++in_.pos;
            if (List(Until::Paren) != Ended::Paren) Fail("a `(` without its `)`");
          }
          Reset(command);
        } else if (command.named && command.arguments == 0) {
          ++in_.pos;
          SkipBlanks();
          if (!Take(')')) Fail("a `(` in the middle of a command");
          Reset(command);
        } else {
          Fail("a `(` in the middle of a command");
        }
      } else if (c == ')') {
        EndCommand(command);
        if (until != Until::Paren) {
          Fail("a `)` without its `(`");
          break;
        }
        ++in_.pos;
        return Ended::Paren;
      } else if ((c == '<' || c == '>') && !(bash_ && Peek(1) == '(')) {
        Redirection(command);
      } else if (!command.started || !command.named) {
        if (FirstWord(command) && until == Until::CaseItem) return Ended::Esac;
      } else {
        Word word = ReadWord(IsDeclaration(command.name) && !command.wrapper ? Role::Declared : Role::Argument);
        if (!IsRedirectionPrefix(word)) Argument(command, word);
      }
    }
    EndCommand(command);
    return Ended::Range;
  }

  void Reset(Command& command) { command = Command(); }

  bool IsRedirectionPrefix(const Word& word) const {
    uint32_t c = Peek();
    if ((c != '<' && c != '>') || (bash_ && Peek(1) == '(')) return false;
    if (!word.constant || word.quoted || word.literal.empty()) return false;
    if (std::all_of(word.literal.begin(), word.literal.end(), [](char d) { return IsDigit(static_cast<unsigned char>(d)); })) {
      return true;
    }
    return bash_ && word.literal.size() > 2 && word.literal.front() == '{' && word.literal.back() == '}';
  }

  /// A word where a command may begin. True at the `esac` that ends a case.
  bool FirstWord(Command& command) {
    bool fresh = !command.started;
    Word word = ReadWord(Role::Command);
    if (failed_) return false;
    if (IsRedirectionPrefix(word)) return false;
    command.started = true;
    if (fresh && word.constant && !word.quoted) {
      const std::string& w = word.literal;
      if (IsOneOf(w, {"if", "then", "elif", "else", "fi", "while", "until", "do", "done", "{", "}", "!", "time"}) ||
          (w == "coproc" && bash_)) {
        Reset(command);
        if (w == "time") {
          SkipBlanks();
          if (Peek() == '-' && Peek(1) == 'p' && (Peek(2) == ' ' || Peek(2) == '\t')) in_.pos += 2;
        }
        return false;
      }
      if (w == "esac") {
        Reset(command);
        return true;
      }
      if (w == "for" || w == "select") {
        For();
        Reset(command);
        return false;
      }
      if (w == "case") {
        Case();
        Reset(command);
        return false;
      }
      if (w == "function" && bash_) {
        SkipBlanks();
        Word name = ReadWord(Role::Name);
        NotAName(name, "a function");
        SkipBlanks();
        if (Take('(')) {
          SkipBlanks();
          if (!Take(')')) Fail("a `(` without its `)`");
        }
        Reset(command);
        return false;
      }
      if (w == "[[") {
        Conditional();
        Reset(command);
        return false;
      }
    }
    if (word.assign != std::string::npos) {
      RememberAssignment(word);
      return false;
    }
    CommandWord(command, word);
    return false;
  }

  void CommandWord(Command& command, const Word& word) {
    for (const Use& use : word.uses) {
      scan_.Report(Code::E401, use.hole, "a value cannot be the command, or a part of its name",
                   "the shell runs what `" + Written(use.hole) + "` names",
                   "name the commands in the script:  case " + Written(use.hole) + " in tool) tool … ;; esac");
    }
    command.named = true;
    command.name = word.constant ? std::string(BaseName(word.literal)) : std::string();
    command.operands = 0;
    command.arguments = 0;
    command.options_done = false;
    command.wrapper = nullptr;
    command.previous.clear();
    for (const Wrapper& wrapper : kWrappers) {
      if (wrapper.name == command.name) {
        command.wrapper = &wrapper;
        command.leading = wrapper.operands;
      }
    }
    command.language = LanguageOf(command.name);
    if (IsShellName(command.name)) command.shell = true;
  }

  // ---- arguments
  void Argument(Command& command, const Word& word) {
    ++command.arguments;
    if (command.wrapper) {
      ShellCode(command, word);
      WrapperArgument(command, word);
    } else {
      ShellCode(command, word);
      NamedArgument(command, word);
      LanguageArgument(command, word);
      bool option = !command.options_done && word.literal.size() > 1 && word.literal[0] == '-';
      if (!option) ++command.operands;
      if (word.literal == "--" && word.constant) command.options_done = true;
    }
    command.previous = word.constant ? word.literal : std::string();
  }

  void WrapperArgument(Command& command, const Word& word) {
    const Wrapper& wrapper = *command.wrapper;
    if (command.skip_next) {
      command.skip_next = false;
      if (wrapper.name == "env" && IsOneOf(command.previous, {"-S", "--split-string"})) {
        for (const Use& use : word.uses) ParsesAgain(use, "env -S", "env without -S takes words:  env NAME=" + Written(use.hole) + " command");
      }
      return;
    }
    const std::string& w = word.literal;
    if (w == "-" && wrapper.name == "env") return;
    if (!command.options_done && w.size() > 1 && w[0] == '-') {
      if (w == "--") {
        command.options_done = true;
      } else if (w[1] == '-') {
        for (string_view option : wrapper.long_options) {
          if (!option.empty() && w == option) command.skip_next = true;
        }
        if (wrapper.name == "env" && w.rfind("--split-string", 0) == 0) {
          command.skip_next = w == "--split-string";
          for (const Use& use : word.uses) ParsesAgain(use, "env -S", "env NAME=" + Written(use.hole) + " command");
        }
      } else {
        if (IsOneOf(wrapper.name, {"command"}) && w.find_first_of("vV") != std::string::npos) command.lookup = true;
        for (size_t i = 1; i < w.size(); ++i) {
          if (wrapper.short_options.find(w[i]) == string_view::npos) continue;
          if (wrapper.name == "env" && w[i] == 'S') {
            for (const Use& use : word.uses) ParsesAgain(use, "env -S", "env NAME=" + Written(use.hole) + " command");
          }
          command.skip_next = i + 1 == w.size() && word.uses.empty() && word.constant;
          break;
        }
      }
      return;
    }
    if (wrapper.assignments && word.literal.find('=') != std::string::npos) {
      size_t equals = word.literal.find('=');
      for (const Use& use : word.uses) {
        if (use.at <= equals) NoName(use, "a variable");
      }
      return;
    }
    if (command.leading > 0) {
      --command.leading;
      return;
    }
    if (command.lookup) return;
    CommandWord(command, word);
  }

  /// `… bash -c CODE …`, wherever the shell's name stands among the words, and `su -c CODE`.
  void ShellCode(Command& command, const Word& word) {
    const std::string& w = word.literal;
    bool option = w.size() > 1 && (w[0] == '-' || w[0] == '+');
    bool su = IsOneOf(command.name, {"su", "runuser", "sg", "script", "flock"});
    if (command.code_next && !option) {
      command.code_next = false;
      command.code_given = true;
      for (const Use& use : word.uses) {
        ParsesAgain(use, "-c", "pass it as an argument:  sh -c '… \"$1\" …' sh " + Written(use.hole));
      }
      return;
    }
    if (su && option && word.constant && (w == "-c" || w == "--command" || w == "--session-command" || w == "-lc")) {
      command.code_next = true;
      return;
    }
    if (su && w.find("command=") != std::string::npos && option) {
      for (const Use& use : word.uses) ParsesAgain(use, command.name + " -c", AssignHelp(use.hole));
    }
    if (command.shell && !command.shell_operand && !command.code_given) {
      if (command.shell_skip) {
        command.shell_skip = false;
        return;
      }
      if (option) {
        if (w[1] != '-') {
          if (w.find('c') != std::string::npos) command.code_next = true;
          if (w.find('s') != std::string::npos) command.shell_stdin = true;
          char last = w.back();
          if (last == 'o' || last == 'O') command.shell_skip = true;
        } else if (w == "--rcfile" || w == "--init-file") {
          command.shell_skip = true;
        }
        return;
      }
      command.shell_operand = true;
    }
    if (word.constant && command.named && IsShellName(BaseName(w)) && !IsOneOf(command.name, {"echo", "printf", "which", "type"})) {
      command.shell = true;
      command.shell_operand = command.shell_skip = command.shell_stdin = command.code_next = command.code_given = false;
    }
  }

  void NoName(const Use& use, const char* what) {
    Refuse(use.hole, std::string("a value cannot be the name of ") + what,
         "the shell evaluates `" + Written(use.hole) + "` as a name here", "write the name in the script:  name=" + Written(use.hole));
  }
  void NotAName(const Word& word, const char* what) {
    for (const Use& use : word.uses) NoName(use, what);
  }
  /// A name that a builtin evaluates when it runs: a number in it, `part~{n}`, can do no harm.
  void EvaluatedName(const Word& word) {
    for (const Use& use : word.uses) {
      if (scan_.hole(use.hole).kind != HoleKind::Number) NoName(use, "a variable");
    }
  }

  /// The builtins and commands that parse what they are given.
  void NamedArgument(Command& command, const Word& word) {
    const std::string& n = command.name;
    const std::string& w = word.literal;
    bool option = !command.options_done && w.size() > 1 && (w[0] == '-' || w[0] == '+');
    if (IsOneOf(n, {"eval", "trap", "source", ".", "alias", "fc", "bind"})) {
      for (const Use& use : word.uses) {
        ParsesAgain(use, n, IsOneOf(n, {"source", "."}) ? "run it as a program of its own:  sh " + Written(use.hole) : AssignHelp(use.hole));
      }
    } else if (n == "let") {
      for (const Use& use : word.uses) NumberOnly(use.hole, "the operands of `let`");
    } else if (IsDeclaration(n)) {
      DeclarationArgument(command, word, option);
    } else if (n == "unset") {
      EvaluatedName(word);
    } else if (IsOneOf(n, {"read", "mapfile", "readarray"})) {
      if (command.value_next) {
        command.value_next = false;
      } else if (option) {
        char last = w.back();
        string_view with_value = n == "read" ? "pdtnNiu" : "dnOsuc";
        bool has = w.find_first_of(with_value) != std::string::npos;
        if (n == "read" && w.find('a') != std::string::npos && !has) EvaluatedName(word);
        if (n != "read" && w.find('C') != std::string::npos) {
          for (const Use& use : word.uses) ParsesAgain(use, n + " -C", AssignHelp(use.hole));
        }
        command.value_next = word.uses.empty() && with_value.find(last) != string_view::npos;
      } else {
        EvaluatedName(word);
        if (word.constant && (n != "read" || (command.previous[0] == '-' && command.previous.find('a') != std::string::npos))) arrays_.insert(w);
      }
    } else if (n == "getopts") {
      if (command.operands == 1) EvaluatedName(word);
    } else if (n == "printf") {
      if (command.previous == "-v" && command.arguments == 2) EvaluatedName(word);
      if (command.arguments == 1 && w.rfind("-v", 0) == 0) EvaluatedName(word);
    } else if (n == "wait") {
      if (command.previous == "-p") EvaluatedName(word);
    } else if (n == "[" || n == "test") {
      if (IsOneOf(command.previous, {"-v", "-R"})) EvaluatedName(word);
    } else if (IsOneOf(n, {"complete", "compgen"})) {
      for (const Use& use : word.uses) ParsesAgain(use, n, AssignHelp(use.hole));
    } else if (IsOneOf(n, {"ssh", "slogin", "autossh", "rsh"})) {
      SshArgument(command, word, option);
    } else if (n == "watch") {
      if (!option && !(command.previous.size() > 1 && command.previous[0] == '-')) {
        for (const Use& use : word.uses) ParsesAgain(use, n, AssignHelp(use.hole));
      }
    } else if (n == "parallel") {
      if (word.constant && w.rfind(":::", 0) == 0) command.code_given = true;
      bool of_option = option || (command.previous.size() > 1 && command.previous[0] == '-');
      if (!command.code_given && !of_option) {
        for (const Use& use : word.uses) ParsesAgain(use, n, "pass it as data:  parallel command {} ::: " + Written(use.hole));
      }
    }
  }

  void DeclarationArgument(Command& command, const Word& word, bool option) {
    const std::string& w = word.literal;
    if (option && word.assign == std::string::npos) {
      if (w[0] == '-') {
        command.attribute_array |= w.find_first_of("aA") != std::string::npos;
        command.attribute_integer |= w.find('i') != std::string::npos;
        command.attribute_reference |= command.name != "export" && w.find('n') != std::string::npos;
      }
      EvaluatedName(word);
      return;
    }
    size_t equals = w.find('=');
    std::string name = w.substr(0, std::min(equals, w.size()));
    if (!name.empty() && name.back() == '+') name.pop_back();
    if (command.attribute_array && bash_) arrays_.insert(name);
    if (command.attribute_integer && bash_) integers_.insert(name);
    if (command.attribute_reference && bash_) references_.insert(name);
    bool fixed_name = IsName(name);
    for (const Use& use : word.uses) fixed_name &= equals != std::string::npos && use.at > equals;
    for (const Use& use : word.uses) {
      if (scan_.hole(use.hole).kind == HoleKind::Number) continue;
      if (equals == std::string::npos || use.at <= equals || (bash_ && !fixed_name)) {
        NoName(use, "a variable");
      } else if (bash_) {
        // bash parses `declare name="(…)"` as an array again when the name is, or becomes, an array.
        declared_.push_back({use.hole, name, command.name});
      }
    }
  }

  void SshArgument(Command& command, const Word& word, bool option) {
    if (command.skip_next) {
      command.skip_next = false;
      --command.operands;  // the caller counts every word that is no option
      if (command.previous == "-o") {
        for (const Use& use : word.uses) ParsesAgain(use, "ssh -o", AssignHelp(use.hole));
      }
      return;
    }
    if (option && command.operands == 0) {
      const std::string& w = word.literal;
      constexpr string_view kWithArgument = "BbcDEeFIiJLlmOopQRSWw";
      size_t at = w.find_first_of(kWithArgument, 1);
      if (at != std::string::npos && w[at] == 'o') {
        for (const Use& use : word.uses) ParsesAgain(use, "ssh -o", AssignHelp(use.hole));
      }
      command.skip_next = at != std::string::npos && at + 1 == w.size() && word.uses.empty() && word.constant;
      return;
    }
    if (command.operands == 0) return;  // the host
    for (const Use& use : word.uses) {
      ParsesAgain(use, command.name, "send it as data:  printf '%s' " + Written(use.hole) + " | ssh host 'cat > file'");
    }
  }

  void LanguageArgument(Command& command, const Word& word) {
    const Language* language = command.language;
    if (!language) return;
    const std::string& w = word.literal;
    if (command.language_skips > 0) {
      --command.language_skips;
      return;
    }
    if (command.language_code_next) {
      command.language_code_next = false;
      command.language_text_done = true;
      ForeignCode(command, word);
      return;
    }
    bool option = w.size() > 1 && w[0] == '-' && !command.options_done;
    if (option) {
      if (w[1] == '-') {
        if (w == "--expression") command.language_code_next = true;
        if (w.rfind("--expression=", 0) == 0) ForeignCode(command, word), command.language_text_done = true;
        if (w == "--file" || w == "--from-file") command.language_skips = 1, command.language_text_done = true;
        if (w == "--assign" || w == "--indent" || w == "--field-separator") command.language_skips = 1;
        if (IsOneOf(w, {"--arg", "--argjson", "--slurpfile", "--rawfile", "--argfile"})) command.language_skips = 2;
        return;
      }
      for (size_t i = 1; i < w.size(); ++i) {
        bool last = i + 1 == w.size() && word.uses.empty() && word.constant;
        if (language->code.find(w[i]) != string_view::npos) {
          if (last) {
            command.language_code_next = true;
          } else {
            command.language_text_done = true;
            ForeignCode(command, word);
          }
          return;
        }
        if (language->no_operand.find(w[i]) != string_view::npos) {
          command.language_text_done = true;
          if (last) command.language_skips = 1;
          return;
        }
        if (language->arguments.find(w[i]) != string_view::npos) {
          if (last) command.language_skips = 1;
          return;
        }
      }
      return;
    }
    if (language->first_operand && !command.language_text_done) {
      command.language_text_done = true;
      ForeignCode(command, word);
    } else if (language->first_operand && !word.OnlyAHole()) {
      // Options that are not known here may have shifted the operands: a text in '…' is most likely the program.
      for (const Use& use : word.uses) {
        if (use.quote == Quote::Single) Foreign(command.name, use.hole);
      }
    }
  }
  void ForeignCode(const Command& command, const Word& word) {
    for (const Use& use : word.uses) Foreign(command.name, use.hole);
  }
  void Foreign(const std::string& name, uint32_t hole) {
    string_view n = name;
    std::string help;
    if (n.find("awk") != string_view::npos) {
      help = "VALUE=" + Written(hole) + " " + name + " '… ENVIRON[\"VALUE\"] …'";
    } else if (IsOneOf(n, {"jq", "gojq", "jaq"})) {
      help = name + " --arg value " + Written(hole) + " '… $value …'";
    } else if (n == "yq") {
      help = "VALUE=" + Written(hole) + " yq '… strenv(VALUE) …'";
    } else if (n == "perl") {
      help = "VALUE=" + Written(hole) + " perl -e '… $ENV{VALUE} …'";
    } else if (n.substr(0, 6) == "python" || n.substr(0, 4) == "pypy") {
      help = name + " -c 'import sys; … sys.argv[1] …' " + Written(hole);
    } else if (n == "ruby") {
      help = "VALUE=" + Written(hole) + " ruby -e '… ENV[\"VALUE\"] …'";
    } else if (n == "node" || n == "nodejs") {
      help = "VALUE=" + Written(hole) + " node -e '… process.env.VALUE …'";
    } else if (n == "R" || n == "Rscript") {
      help = "VALUE=" + Written(hole) + " " + name + " -e '… Sys.getenv(\"VALUE\") …'";
    } else {
      help = "use a tool that takes data:  VALUE=" + Written(hole) + " perl -pe 's/word/$ENV{VALUE}/'";
    }
    scan_.Report(Code::W491, hole, "another language parses this value: `" + name + "` reads it as a part of its program",
                 "the shell keeps `" + Written(hole) + "` intact, `" + name + "` does not", help);
  }

  // ---- assignments and attributes
  void RememberAssignment(const Word& word) {
    for (const Use& use : word.uses) assigned_.push_back({use.hole, word.name, ""});
  }
  void CheckAttributes() {
    for (const Declared& d : declared_) {
      if (arrays_.count(d.name)) {
        Refuse(d.hole, "`" + d.command + "` parses the value of an array again", "`" + d.name + "` is an array",
             "assign it:  " + d.name + "=(" + Written(d.hole) + ")");
      } else if (integers_.count(d.name)) {
        NumberOnly(d.hole, "the value of an integer variable");
      } else if (references_.count(d.name)) {
        Refuse(d.hole, "a value cannot be the target of a name reference", "`" + d.name + "` is a reference", AssignHelp(d.hole));
      }
    }
    for (const Declared& d : assigned_) {
      if (integers_.count(d.name)) NumberOnly(d.hole, "the value of an integer variable");
      if (references_.count(d.name)) {
        Refuse(d.hole, "a value cannot be the target of a name reference", "`" + d.name + "` is a reference", AssignHelp(d.hole));
      }
    }
  }

  // ---- the end of a simple command
  void Classify(const Command& command, Reader& reader, std::string& name) {
    reader = Reader::Data;
    if ((command.shell && (!command.shell_operand || command.shell_stdin) && !command.code_given) ||
        IsOneOf(command.name, {"ssh", "slogin", "rsh", "su", "at", "batch", "parallel"})) {
      reader = Reader::Shell;
      name = command.name;
    } else if (command.language && command.language->runs_stdin && !command.language_text_done &&
               (command.operands == 0 || command.previous == "-")) {
      reader = Reader::Program;
      name = command.name;
    }
  }
  void EndCommand(Command& command) {
    Reader reader;
    std::string name;
    Classify(command, reader, name);
    if (reader != Reader::Data) {
      for (size_t i : command.here_docs) {
        if (i >= pending_.size()) continue;
        pending_[i].reader = reader;
        pending_[i].reader_name = name;
      }
      for (const Use& use : command.stdin_uses) ReadBy(use.hole, reader, name);
    }
    Reset(command);
  }
  /// `cat <<EOF | bash`: what cat is given is what the next command reads.
  void Pipe(Command& command) {
    std::vector<size_t> docs;
    std::vector<Use> uses;
    if (command.name == "cat" && command.operands == 0) {
      docs = command.here_docs;
      uses = command.stdin_uses;
    }
    EndCommand(command);
    SkipBlanks();
    if (!docs.empty() && (Peek() == '\n' || Peek() == '#')) {
      Fail("a line break between `cat <<…  |` and the command that reads it");
      return;
    }
    command.here_docs = std::move(docs);
    command.stdin_uses = std::move(uses);
  }
  void ReadBy(uint32_t hole, Reader reader, const std::string& name) {
    if (reader == Reader::Shell) {
      Refuse(hole, "`" + name + "` parses its standard input as shell code, so a value cannot stand there",
           "`" + Written(hole) + "` would be parsed again", "pass it as an argument:  sh -c '… \"$1\" …' sh " + Written(hole));
    } else if (reader == Reader::Program) {
      Foreign(name, hole);
    }
  }

  // ---- compound commands
  void For() {
    SkipBlanks();
    if (bash_ && Peek() == '(' && Peek(1) == '(') {
      in_.pos += 2;
      Arithmetic(')', true, "`for (( ))`");
      return;
    }
    Word name = ReadWord(Role::Name);
    NotAName(name, "a loop variable");
    SkipBlanksAndLines();
    if (Peek() == ';') {
      return;
    }
    Word in = ReadWord(Role::Name);
    if (in.IsReserved("do")) return;
    if (!in.IsReserved("in")) {
      Fail("`for` without `in`");
      return;
    }
    while (!AtEnd()) {
      SkipBlanks();
      uint32_t c = Peek();
      if (c == ';' || c == '\n' || AtEnd()) return;
      if (c == '#') {
        Comment();
        return;
      }
      size_t before = in_.pos;
      Word word = ReadWord(Role::Element);
      for (const Use& use : word.uses) assigned_.push_back({use.hole, name.literal, ""});
      if (in_.pos == before) Fail("the word list of `for` is not understood");
    }
  }

  void Case() {
    Nested nested(*this);
    SkipBlanks();
    ReadWord(Role::Operand);
    SkipBlanksAndLines();
    Word in = ReadWord(Role::Name);
    if (!in.IsReserved("in")) {
      Fail("`case` without `in`");
      return;
    }
    while (!AtEnd()) {
      SkipBlanksAndLines();
      if (AtEnd()) break;
      Take('(');
      bool first = true;
      for (;;) {
        SkipBlanks();
        Word pattern = ReadWord(Role::Pattern);
        if (failed_) return;
        if (first && pattern.IsReserved("esac")) return;
        first = false;
        PatternUses(pattern, "a case pattern");
        SkipBlanks();
        if (Take('|')) continue;
        if (Take(')')) break;
        Fail("a case pattern without its `)`");
        return;
      }
      switch (List(Until::CaseItem)) {
        case Ended::Esac: return;
        case Ended::CaseItem:
          Take(';');
          Take(';');
          Take('&');
          break;
        default: Fail("`case` without `esac`"); return;
      }
    }
    Fail("`case` without `esac`");
  }

  void PatternUses(const Word& word, const char* where) {
    for (const Use& use : word.uses) {
      if (use.quote == Quote::Bare) {
        Refuse(use.hole, std::string(where) + " cannot take a bare value",
             "is `" + Written(use.hole) + "` meant as a pattern or as text?", "quote it to compare it as text:  \"" + Written(use.hole) + "\"");
      }
    }
  }

  void Conditional() {
    Nested nested(*this);
    enum class Expect : uint8_t { Operand, Pattern, Regex, Number, Variable } expect = Expect::Operand;
    Word left;
    while (!AtEnd()) {
      SkipBlanksAndLines();
      if (AtEnd()) break;
      uint32_t c = Peek();
      if (expect != Expect::Regex &&
          (c == '(' || c == ')' || c == '&' || c == '|' || ((c == '<' || c == '>') && Peek(1) != '('))) {
        ++in_.pos;
        continue;
      }
      if (c == ';') break;
      size_t before = in_.pos;
      Word word = ReadWord(expect == Expect::Regex ? Role::Regex : expect == Expect::Pattern ? Role::Pattern : Role::Operand);
      if (in_.pos == before) break;
      if (failed_) return;
      if (expect == Expect::Operand && word.constant && !word.quoted) {
        const std::string& w = word.literal;
        if (w == "]]") return;
        Expect next = Expect::Operand;
        if (IsOneOf(w, {"-eq", "-ne", "-lt", "-le", "-gt", "-ge"})) {
          for (const Use& use : left.uses) NumberOnly(use.hole, "both sides of `-eq` and its like in `[[ ]]`");
          next = Expect::Number;
        } else if (w == "=~") {
          next = Expect::Regex;
        } else if (w == "==" || w == "=" || w == "!=") {
          next = Expect::Pattern;
        } else if (w == "-v" || w == "-R") {
          next = Expect::Variable;
        }
        if (next != Expect::Operand) {
          expect = next;
          continue;
        }
      }
      switch (expect) {
        case Expect::Pattern: PatternUses(word, "the right side of `==` in `[[ ]]`"); break;
        case Expect::Regex: PatternUses(word, "the right side of `=~`"); break;
        case Expect::Number:
          for (const Use& use : word.uses) NumberOnly(use.hole, "both sides of `-eq` and its like in `[[ ]]`");
          break;
        case Expect::Variable: EvaluatedName(word); break;
        case Expect::Operand: break;
      }
      expect = Expect::Operand;
      left = std::move(word);
    }
    Fail("`[[` without `]]`");
  }

  // ---- redirections and here-documents
  void Redirection(Command& command) {
    command.started = true;
    uint32_t c = Next();
    bool here = false, strip = false, here_string = false;
    if (c == '&') {
      ++in_.pos;
      Take('>');
    } else if (c == '<') {
      if (Take('<')) {
        if (bash_ && Take('<')) {
          here_string = true;
        } else {
          here = true;
          strip = Take('-');
        }
      } else if (!Take('&')) {
        Take('>');
      }
    } else if (!Take('>') && !Take('&')) {
      Take('|');
    }
    SkipBlanks();
    if (here) {
      HereDelimiter(command, strip);
      return;
    }
    size_t before = in_.pos;
    Word target = ReadWord(Role::Target);
    if (in_.pos == before) Fail("a redirection without a target");
    if (here_string) command.stdin_uses.insert(command.stdin_uses.end(), target.uses.begin(), target.uses.end());
  }

  void HereDelimiter(Command& command, bool strip) {
    HereDoc doc;
    doc.strip_tabs = strip;
    bool any = false;
    while (!AtEnd()) {
      uint32_t c = Peek();
      if (IsHole(c)) {
        Refuse(HoleOf(c), "the delimiter of a here-document cannot take a value", "`" + Written(HoleOf(c)) + "` stands in the delimiter",
             "write a fixed word:  <<EOF");
        Fail("the delimiter of a here-document cannot take a value");
        return;
      }
      if (c == ' ' || c == '\t' || c == '\n' || c == ';' || c == '&' || c == '|' || c == '<' || c == '>' || c == '(' || c == ')') break;
      any = true;
      ++in_.pos;
      if (c == '\\') {
        doc.quoted = true;
        if (IsHole(Peek()) || AtEnd()) {
          Fail("the delimiter of a here-document is not understood");
          return;
        }
        doc.delimiter += static_cast<char>(Next());
      } else if (c == '\'' || c == '"') {
        doc.quoted = true;
        while (!AtEnd() && Peek() != c) {
          if (IsHole(Peek()) || Peek() == '\n') {
            Fail("the delimiter of a here-document is not understood");
            return;
          }
          doc.delimiter += static_cast<char>(Next());
        }
        if (!Take(static_cast<char>(c))) Fail("the delimiter of a here-document is not understood");
      } else if (c == '$' || c == '`') {
        Fail("the delimiter of a here-document is not understood");
        return;
      } else {
        doc.delimiter += static_cast<char>(c);
      }
    }
    if (!any) {
      Fail("a here-document without a delimiter");
      return;
    }
    command.here_docs.push_back(pending_.size());
    pending_.push_back(std::move(doc));
  }

  /// Consumes a newline, and the bodies of the here-documents that begin behind it.
  void NewLine() {
    ++in_.pos;
    if (outer_pending_) {
      Fail("a line break inside `$( )` before the here-document that began outside of it");
      return;
    }
    std::vector<HereDoc> docs = std::move(pending_);
    pending_.clear();
    for (const HereDoc& doc : docs) Body(doc);
  }

  void Body(const HereDoc& doc) {
    size_t begin = in_.pos;
    size_t line = begin;
    for (;;) {
      if (AtEnd()) {
        Fail("the here-document `" + doc.delimiter + "` is not closed");
        return;
      }
      // One line: [line, stop), joined with the next one by a backslash at its end unless quoted.
      size_t stop = line;
      bool escaped = false;
      while (stop < in_.end) {
        uint32_t c = (*in_.units)[stop].value;
        if (c == '\n' && (!escaped || doc.quoted)) break;
        escaped = c == '\\' && !escaped;
        ++stop;
      }
      size_t from = line;
      while (doc.strip_tabs && from < stop && (*in_.units)[from].value == '\t') ++from;
      bool same = stop - from == doc.delimiter.size();
      for (size_t i = 0; same && i < doc.delimiter.size(); ++i) {
        same = (*in_.units)[from + i].value == static_cast<unsigned char>(doc.delimiter[i]);
      }
      if (same) {
        Input after{in_.units, std::min(stop + 1, in_.end), in_.end};
        in_.end = line;
        in_.pos = begin;
        BodyText(doc);
        in_ = after;
        return;
      }
      if (stop >= in_.end) {
        in_.pos = in_.end;
        Fail("the here-document `" + doc.delimiter + "` is not closed");
        return;
      }
      line = stop + 1;
      in_.pos = line;
    }
  }

  void BodyText(const HereDoc& doc) {
    Nested nested(*this);
    while (!AtEnd()) {
      uint32_t c = Next();
      if (IsHole(c)) {
        uint32_t hole = HoleOf(c);
        if (doc.quoted) {
          Refuse(hole, "a here-document with a quoted delimiter takes no values",
               "`" + Written(hole) + "` would be plain text here", "write the delimiter without quotes:  <<" + doc.delimiter);
        } else {
          InDouble(hole);
          ReadBy(hole, doc.reader, doc.reader_name);
        }
      } else if (doc.quoted) {
        continue;
      } else if (c == '\\') {
        Escape();
      } else if (c == '$') {
        Dollar(Around::HereDoc, nullptr);
      } else if (c == '`') {
        Backtick(Around::HereDoc);
      }
    }
  }

  // ---- words
  void Escape() {
    uint32_t c = Peek();
    if (IsHole(c)) {
      Refuse(HoleOf(c), "a backslash right before a value would quote jobc's reference to it",
           "`" + Written(HoleOf(c)) + "` stands behind a backslash", "for a backslash in front of the value:  '\\'" + Written(HoleOf(c)));
    }
    if (c != kEnd) ++in_.pos;
  }

  Word ReadWord(Role role) {
    Word word;
    Nested nested(*this);
    bool words = role == Role::Argument || role == Role::Element || role == Role::Declared || role == Role::Command;
    bool assignments = role == Role::Command || role == Role::Declared;
    bool splice = false;
    size_t parts = 0;  // to see whether a splice stands alone
    int regex_depth = 0;
    uint32_t before = kEnd;
    if (role == Role::Element && element_of_array_ && Peek() == '[') {
      ++in_.pos;
      Arithmetic(']', false, "an array's subscript");
      word.constant = false;
      ++parts;
    }
    while (!AtEnd()) {
      uint32_t c = Peek();
      if (IsHole(c)) {
        ++in_.pos;
        uint32_t hole = HoleOf(c);
        Bare(hole, words);
        splice |= scan_.hole(hole).spliced && words;
        word.uses.push_back({hole, Quote::Bare, word.literal.size()});
        word.constant = false;
        ++parts;
        before = c;
        continue;
      }
      if (c == ' ' || c == '\t' || c == '\n') {
        if (!(regex_depth > 0 && c != '\n')) break;
        ++in_.pos;
        continue;
      }
      if (c == '<' || c == '>') {
        if (bash_ && Peek(1) == '(') {
          in_.pos += 2;
          Substitution();
          word.constant = false;
          ++parts;
          before = ')';
          continue;
        }
        if (regex_depth == 0) break;
      }
      if (role == Role::Regex && (c == '(' || c == ')' || c == '|')) {
        if (c == '(') ++regex_depth;
        if (c == ')' && --regex_depth < 0) break;
        if (c == '|' && regex_depth == 0 && Peek(1) == '|') break;
        ++in_.pos;
        word.literal += static_cast<char>(c);
        ++parts;
        continue;
      }
      if (c == ';' || c == '&' || c == '|' || c == ')') break;
      if (c == '(') {
        if (assignments && bash_ && word.assign != std::string::npos && parts == word.assign && before == '=') {
          ++in_.pos;
          ArrayLiteral(word);
          break;
        }
        bool extended = bash_ && role != Role::Name && parts > 0 &&
                        (before == '@' || before == '?' || before == '*' || before == '+' || before == '!');
        if (!extended) break;
        ++in_.pos;
        ExtendedPattern(word, role);
        word.constant = false;
        ++parts;
        before = ')';
        continue;
      }
      ++in_.pos;
      ++parts;
      if (c == '\\') {
        if (Peek() == '\n') {
          ++in_.pos;
          --parts;
          continue;
        }
        word.quoted = true;
        uint32_t escaped = Peek();
        Escape();
        if (IsHole(escaped)) {
          word.uses.push_back({HoleOf(escaped), Quote::Bare, word.literal.size()});
          word.constant = false;
        } else if (escaped != kEnd) {
          word.literal += static_cast<char>(escaped);
        }
        before = '\\';
      } else if (c == '\'') {
        word.quoted = true;
        SingleQuoted(&word);
        before = '\'';
      } else if (c == '"') {
        word.quoted = true;
        DoubleQuoted(&word);
        before = '"';
      } else if (c == '$') {
        word.constant = false;
        Dollar(Around::Bare, &word);
        before = '$';
      } else if (c == '`') {
        word.constant = false;
        Backtick(Around::Bare);
        before = '`';
      } else {
        if (c == '=' && assignments && word.assign == std::string::npos && !word.quoted && (word.constant || word.subscripted)) {
          string_view name = word.literal;
          if (!name.empty() && name.back() == '+') name.remove_suffix(1);
          if (IsName(name)) {
            word.name = std::string(name);
            word.assign = parts;
          }
        }
        word.literal += static_cast<char>(c);
        before = c;
        if (c == '[' && role == Role::Command && bash_ && !word.subscripted && word.constant && !word.quoted) {
          string_view name = word.literal;
          name.remove_suffix(1);
          if (IsName(name)) {
            word.literal.pop_back();
            word.subscripted = true;
            Arithmetic(']', false, "an array's subscript");
            before = ']';
          }
        }
      }
    }
    if (splice && (parts != 1 || word.assign != std::string::npos)) {
      for (const Use& use : word.uses) {
        if (!scan_.hole(use.hole).spliced) continue;
        const Hole& h = scan_.hole(use.hole);
        scan_.Report(Code::E404, use.hole, "a splice must be a word of its own", "`" + Written(use.hole) + "` is joined to other text",
                     h.kind == HoleKind::List ? "~{join(" + h.source + ", \" \")}" : "~{" + h.source + " ?? \"\"}");
      }
    }
    return word;
  }

  static bool IsName(string_view name) {
    if (name.empty() || !IsNameStart(static_cast<unsigned char>(name[0]))) return false;
    return std::all_of(name.begin(), name.end(), [](char c) { return IsNameChar(static_cast<unsigned char>(c)); });
  }

  /// Behind `NAME=(`, to its `)`.
  void ArrayLiteral(Word& word) {
    Nested nested(*this);
    arrays_.insert(word.name);
    while (!AtEnd()) {
      SkipBlanksAndLines();
      if (Take(')')) return;
      size_t before = in_.pos;
      bool outer = std::exchange(element_of_array_, true);
      Word element = ReadWord(Role::Element);
      element_of_array_ = outer;
      for (const Use& use : element.uses) assigned_.push_back({use.hole, word.name, ""});
      if (in_.pos == before) break;
    }
    Fail("an array without its `)`");
  }

  /// Behind `@(` and its like, to the `)`.
  void ExtendedPattern(Word& word, Role role) {
    Nested nested(*this);
    while (!AtEnd()) {
      Word part = ReadWord(role == Role::Pattern ? Role::Pattern : Role::Operand);
      word.uses.insert(word.uses.end(), part.uses.begin(), part.uses.end());
      if (Take(')')) return;
      if (Take('|')) continue;
      if (Peek() == ' ' || Peek() == '\t') {
        ++in_.pos;
        continue;
      }
      break;
    }
    Fail("a pattern without its `)`");
  }

  void SingleQuoted(Word* word) {
    while (!AtEnd()) {
      uint32_t c = Next();
      if (c == '\'') return;
      if (IsHole(c)) {
        InSingle(HoleOf(c));
        if (word) {
          word->uses.push_back({HoleOf(c), Quote::Single, word->literal.size()});
          word->constant = false;
        }
      } else if (word) {
        word->literal += static_cast<char>(c);
      }
    }
    Fail("a `'` without its end");
  }

  /// Behind the opening quote. `arithmetic`: inside `$(( ))`, where only numbers may stand.
  void DoubleQuoted(Word* word, const char* arithmetic = nullptr) {
    Nested nested(*this);
    while (!AtEnd()) {
      uint32_t c = Next();
      if (c == '"') return;
      if (IsHole(c)) {
        uint32_t hole = HoleOf(c);
        if (arithmetic) {
          InArithmetic(hole, kEnd, arithmetic);
        } else {
          InDouble(hole);
        }
        if (word) {
          word->uses.push_back({hole, Quote::Double, word->literal.size()});
          word->constant = false;
        }
      } else if (c == '\\') {
        uint32_t escaped = Peek();
        Escape();
        if (word && !IsHole(escaped) && escaped != kEnd && escaped != '\n') word->literal += static_cast<char>(escaped);
      } else if (c == '$') {
        if (word && Peek() != '"') word->constant = false;
        Dollar(arithmetic ? Around::Arithmetic : Around::Double, word);
      } else if (c == '`') {
        if (word) word->constant = false;
        Backtick(Around::Double);
      } else if (word) {
        word->literal += static_cast<char>(c);
      }
    }
    Fail("a `\"` without its end");
  }

  /// Behind a `$`. `word` gets the holes of a default value.
  void Dollar(Around around, Word* word) {
    uint32_t c = Peek();
    if (IsHole(c)) {
      uint32_t hole = HoleOf(c);
      Refuse(hole, "a `$` right before a value would change jobc's reference to it", "`" + Written(hole) + "` stands behind a `$`",
           "for a dollar sign in front of the value:  '$'" + Written(hole));
      if (word) word->uses.push_back({hole, Quote::Double, word->literal.size()});
      ++in_.pos;
    } else if (c == '(' && Peek(1) == '(') {
      in_.pos += 2;
      Arithmetic(')', true, "`$(( ))`");
    } else if (c == '(') {
      ++in_.pos;
      Substitution();
    } else if (c == '{') {
      ++in_.pos;
      Parameter(around, word);
    } else if (c == '[' && bash_) {
      ++in_.pos;
      Arithmetic(']', false, "`$[ ]`");
    } else if (c == '\'' && around == Around::Bare) {
      ++in_.pos;
      AnsiQuoted();
    } else if (c == '"' && around == Around::Bare) {
      ++in_.pos;
      Word inner;
      DoubleQuoted(&inner);
      for (const Use& use : inner.uses) {
        Refuse(use.hole, "`$\"…\"` is looked up in a message catalogue and expanded again, so it takes no values",
             "`" + Written(use.hole) + "` would be expanded again", "leave out the `$`:  \"" + Written(use.hole) + "\"");
      }
    } else if (IsNameStart(c)) {
      while (IsNameChar(Peek())) ++in_.pos;
    } else if (IsDigit(c) || c == '@' || c == '*' || c == '#' || c == '?' || c == '-' || c == '$' || c == '!') {
      ++in_.pos;
    }
  }

  void AnsiQuoted() {
    while (!AtEnd()) {
      uint32_t c = Next();
      if (c == '\'') return;
      if (c == '\\') {
        // dash before 0.5.13 reads `$'…'` as `$` and `'…'`: the two would end at different places.
        if (!bash_ && Peek() == '\'') {
          Fail("`$'…'` is not read alike by all `sh`");
          return;
        }
        if (!IsHole(Peek()) && Peek() != kEnd) ++in_.pos;
      }
      if (IsHole(c)) {
        Refuse(HoleOf(c), "`$'…'` takes no values", "`" + Written(HoleOf(c)) + "` stands inside `$'…'`",
             "close it before the value:  $'…'" + Written(HoleOf(c)));
      }
    }
    Fail("a `$'` without its end");
  }

  /// Behind `$(` or `<(`.
  void Substitution() {
    Nested nested(*this);
    std::vector<HereDoc> outer = std::exchange(pending_, {});
    bool outer_before = outer_pending_;
    outer_pending_ |= !outer.empty();
    if (List(Until::Paren) != Ended::Paren) Fail("a `$(` without its `)`");
    if (!pending_.empty()) Fail("a here-document inside `$( )` that does not end there");
    pending_ = std::move(outer);
    outer_pending_ = outer_before;
  }

  /// Behind a backtick: its text, without the backslashes that quote inside of it, is scanned as a script of its own.
  void Backtick(Around around) {
    Nested nested(*this);
    std::vector<Unit> text;
    bool closed = false;
    while (!AtEnd()) {
      Unit unit = (*in_.units)[in_.pos++];
      if (unit.value == '`') {
        closed = true;
        break;
      }
      if (unit.value == '\\') {
        uint32_t c = Peek();
        if (IsHole(c)) {
          Escape();
          continue;
        }
        if (c == '`' || c == '\\' || c == '$' || (c == '"' && around == Around::Double)) {
          text.push_back((*in_.units)[in_.pos++]);
          continue;
        }
      }
      text.push_back(unit);
    }
    if (!closed) {
      Fail("a backtick without its end");
      return;
    }
    Input after = std::exchange(in_, Input{&text, 0, text.size()});
    std::vector<HereDoc> outer = std::exchange(pending_, {});
    bool outer_before = outer_pending_;
    outer_pending_ |= !outer.empty();
    List(Until::Range);
    if (!pending_.empty()) Fail("a here-document inside backticks that does not end there");
    pending_ = std::move(outer);
    outer_pending_ = outer_before;
    in_ = after;
  }

  /// Behind `((`, `$((` (`twice`), `$[`, `NAME[`, `${x:`: to the closing character.
  void Arithmetic(char close, bool twice, const char* where) {
    Nested nested(*this);
    int parens = 0, brackets = 0;
    uint32_t before = kEnd;
    while (!AtEnd()) {
      uint32_t c = Next();
      if (IsHole(c)) {
        InArithmetic(HoleOf(c), before, where);
      } else if (c == '(') {
        ++parens;
      } else if (c == ')') {
        if (parens > 0) {
          --parens;
        } else if (close == ')') {
          if (!twice) return;
          if (Take(')')) return;
          Fail("`((` that is not closed by `))`");
          return;
        }
      } else if (c == '[') {
        ++brackets;
      } else if (c == ']') {
        if (brackets == 0 && close == ']') return;
        --brackets;
      } else if (c == '}' && close == '}') {
        return;
      } else if (c == '\\') {
        Escape();
      } else if (c == '"') {
        DoubleQuoted(nullptr, where);
      } else if (c == '\'') {
        while (!AtEnd()) {
          uint32_t q = Next();
          if (q == '\'') break;
          if (IsHole(q)) NotANumberPlace(HoleOf(q), where);
        }
      } else if (c == '$') {
        Dollar(Around::Arithmetic, nullptr);
      } else if (c == '`') {
        Backtick(Around::Arithmetic);
      }
      before = c;
    }
    Fail(std::string(where) + " without its end");
  }
  void NotANumberPlace(uint32_t hole, const char* where) {
    Refuse(hole, std::string("a quoted part of ") + where + " takes no values", "`" + Written(hole) + "` stands inside '…'",
         "leave out the quotes:  " + Written(hole));
  }

  /// Behind `${`.
  void Parameter(Around around, Word* word) {
    Nested nested(*this);
    bool quoted = around != Around::Bare;
    if (IsHole(Peek())) {
      Refuse(HoleOf(Peek()), "a value cannot be the name of a variable", "`" + Written(HoleOf(Peek())) + "` stands where a name is expected",
           "the value itself is written without `${ }`:  " + Written(HoleOf(Peek())));
      Fail("a `${` without a name");
      return;
    }
    if ((Peek() == '#' || Peek() == '!') && Peek(1) != '}' &&
        (IsNameChar(Peek(1)) || Peek(1) == '@' || Peek(1) == '*' || Peek(1) == '#' || Peek(1) == '?' || Peek(1) == '!' ||
         Peek(1) == '$' || (Peek(1) == '-' && Peek(2) == '}'))) {
      if (!(Peek() == '#' && (Peek(1) == '#' || Peek(1) == '?') && Peek(2) != '}')) ++in_.pos;
    }
    if (IsNameStart(Peek())) {
      while (IsNameChar(Peek())) ++in_.pos;
    } else if (IsDigit(Peek())) {
      while (IsDigit(Peek())) ++in_.pos;
    } else if (Peek() == '@' || Peek() == '*' || Peek() == '#' || Peek() == '?' || Peek() == '-' || Peek() == '$' || Peek() == '!') {
      ++in_.pos;
    } else {
      Fail("a `${` without a name");
      return;
    }
    if (Peek() == '[' && bash_) {
      ++in_.pos;
      Arithmetic(']', false, "an array's subscript");
    }
    uint32_t c = Peek();  // the operator
    enum class Part : uint8_t { Default, Pattern, Closed } part = Part::Closed;
    const char* what = "this expansion";
    if (Take('}')) return;
    if (c == ':') {
      ++in_.pos;
      uint32_t op = Peek();
      if (op == '-' || op == '=' || op == '?' || op == '+') {
        ++in_.pos;
        part = Part::Default;
      } else {
        Arithmetic('}', false, "`${name:offset:length}`");
        return;
      }
    } else if (c == '-' || c == '=' || c == '?' || c == '+') {
      ++in_.pos;
      part = Part::Default;
    } else if (c == '#' || c == '%') {
      ++in_.pos;
      Take(static_cast<char>(c));
      part = Part::Pattern;
    } else if (c == '/') {
      what = "`${name/pattern/text}`";
    } else if (c == '^' || c == ',' || c == '@' || c == '*') {
      what = "`${name^}`, `${name,}`, `${name@}`";
    } else {
      Fail("a `${ }` that is not understood");
      return;
    }
    while (!AtEnd()) {
      c = Next();
      if (c == '}') return;
      if (IsHole(c)) {
        uint32_t hole = HoleOf(c);
        scan_.seen[hole] = true;
        if (part == Part::Closed) {
          ClosedExpansion(hole, what);
        } else if (around == Around::Arithmetic) {
          if (part == Part::Default) {
            InArithmetic(hole, kEnd, "what stands in `(( ))`, `$(( ))` and subscripts");
          } else {
            ClosedExpansion(hole, "an expansion in arithmetic");
          }
        } else if (CheckKind(hole, false)) {
          scan_.references[hole] = quoted && part == Part::Default ? Plain(hole) : "\"" + Plain(hole) + "\"";
        }
        if (word) {
          word->uses.push_back({hole, quoted ? Quote::Double : Quote::Bare, word->literal.size()});
          word->constant = false;
        }
      } else if (c == '\\') {
        Escape();
      } else if (c == '\'' && (!quoted || part != Part::Default)) {
        Word inner;
        SingleQuoted(&inner);
        InnerUses(inner, word, quoted || part == Part::Closed, what);
      } else if (c == '"') {
        Word inner;
        DoubleQuoted(&inner);
        InnerUses(inner, word, quoted || part == Part::Closed, what);
      } else if (c == '$') {
        Dollar(around, word);
      } else if (c == '`') {
        Backtick(around);
      }
    }
    Fail("a `${` without its `}`");
  }
  void InnerUses(const Word& inner, Word* word, bool closed, const char* what) {
    for (const Use& use : inner.uses) {
      if (closed) ClosedExpansion(use.hole, what);
      if (word) {
        word->uses.push_back(use);
        word->constant = false;
      }
    }
  }
  void ClosedExpansion(uint32_t hole, const char* what) {
    Refuse(hole, std::string("quotes and patterns inside ") + what + " are not read alike by all shells, so it takes no values there",
         "`" + Written(hole) + "` stands inside `${ }`", AssignHelp(hole));
  }

  struct Declared {
    uint32_t hole;
    std::string name;
    std::string command;
  };

  Scan& scan_;
  const std::vector<std::string>& names_;
  const bool bash_;
  Input in_;
  int depth_ = 0;
  uint32_t top_ = 0;  // where the outermost command at hand begins
  bool failed_ = false;
  std::string reason_;
  std::vector<HereDoc> pending_;
  bool outer_pending_ = false;
  bool element_of_array_ = false;
  std::set<std::string, std::less<>> arrays_, integers_, references_;
  std::vector<Declared> declared_, assigned_;
};

}  // namespace

void ScanShell(const std::vector<std::string>& names, Scan& scan) { ShellScanner(names, scan).Run(); }

}  // namespace jobc::script
