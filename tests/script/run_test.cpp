// The promise itself, with the real interpreters: every value arrives as it is, in every context, and nothing in it is ever
// run. Many values go through one process, so that thousands of combinations cost seconds.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

#include "compiler/script/script.h"
#include "tests/script/template.h"

namespace jobc::script {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

struct Outcome {
  int status = -1;  // as a shell would say it
  std::string out, err;
};

bool Installed(const char* program) { return std::system((std::string("command -v ") + program + " >/dev/null 2>&1").c_str()) == 0; }

std::string SourceName(uint32_t i) {
  std::string name = "x";
  name += std::to_string(i);
  return name;
}

class Run : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/jobc script's.XXXXXX";  // a path that needs quoting
    ASSERT_NE(mkdtemp(pattern), nullptr);
    root_ = pattern;
    std::filesystem::create_directory(root_ + "/private");
    std::filesystem::create_directory(root_ + "/output");
  }
  void TearDown() override {
    std::vector<std::string> left;
    for (const auto& entry : std::filesystem::directory_iterator(root_ + "/output")) left.push_back(entry.path().filename());
    if (!may_leave_files_) {
      EXPECT_THAT(left, ElementsAre()) << "a value was run";
    }
    std::filesystem::remove_all(root_);
  }

  std::string private_dir() const { return root_ + "/private"; }

  /// Starts the launch; `started`, if given, is called with the process id once it runs.
  Outcome Start(const Launch& launch, const std::function<void(pid_t, const std::string&)>& started = {}) {
    for (const auto& [name, content] : launch.files) {
      std::ofstream file(private_dir() + "/" + name, std::ios::binary);
      file << content;
      file.close();
      EXPECT_EQ(chmod((private_dir() + "/" + name).c_str(), 0600), 0);
    }
    std::vector<std::string> environment = {"PATH=" + std::string(getenv("PATH")), "LANG=C.UTF-8", "HOME=" + root_};
    for (const auto& [name, value] : launch.env) environment.push_back(name + "=" + value);
    std::vector<char*> envp, argv;
    for (std::string& e : environment) envp.push_back(e.data());
    std::vector<std::string> words = launch.argv;
    for (std::string& w : words) argv.push_back(w.data());
    envp.push_back(nullptr);
    argv.push_back(nullptr);
    int out[2], err[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(err, O_CLOEXEC), 0);
    std::string cwd = root_ + "/output";
    pid_t pid = fork();
    if (pid == 0) {
      setpgid(0, 0);
      dup2(open("/dev/null", O_RDONLY), 0);
      dup2(out[1], 1);
      dup2(err[1], 2);
      if (chdir(cwd.c_str()) != 0) _exit(99);
      execvpe(argv[0], argv.data(), envp.data());
      _exit(98);
    }
    close(out[1]);
    close(err[1]);
    Outcome outcome;
    pollfd fds[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    int open_ends = 2;
    bool told = false;
    while (open_ends > 0) {
      poll(fds, 2, -1);
      for (int i = 0; i < 2; ++i) {
        if (fds[i].fd < 0 || fds[i].revents == 0) continue;
        char buffer[65536];
        ssize_t n = read(fds[i].fd, buffer, sizeof buffer);
        if (n > 0) {
          (i == 0 ? outcome.out : outcome.err).append(buffer, static_cast<size_t>(n));
          if (started && !told && i == 0) {
            told = true;
            started(pid, outcome.out);
          }
        } else {
          close(fds[i].fd);
          fds[i].fd = -1;
          --open_ends;
        }
      }
    }
    int status = 0;
    waitpid(pid, &status, 0);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return outcome;
  }

  Outcome Script(const Lowered& lowered, const std::vector<HoleValue>& values) {
    for (const Finding& f : lowered.findings) {
      if (f.code != Code::W491) ADD_FAILURE() << Name(f.code) << " " << f.message << ": " << f.label;
    }
    Result<Launch> launch = Bind({&lowered, &values}, private_dir());
    if (!launch) {
      ADD_FAILURE() << launch.error().message;
      return {};
    }
    return Start(*launch);
  }

  std::string root_;
  bool may_leave_files_ = false;
};

/// Values chosen to hurt, then random ones over the same alphabet. All are valid UTF-8, as every value of the language is.
std::vector<std::string> HostileValues(uint32_t seed, size_t count) {
  std::vector<std::string> values = {"", " ", "\n", "\n\n", "a\n", "\na\n\n", "'", "\"", "'\"'", "\\", "\\\\", "a\\", "\\n", "$", "$$", "$x",
                                     "${x}", "$(touch pwned)", "`touch pwned`", "\"; touch pwned; \"", "'; touch pwned; '", "$((1+1))",
                                     "*", "?", "[a-z]*", "/*", "~", "~root", "{a,b}", "-", "--", "-n", "-e", "--help", "!", "(", ")", "=",
                                     "a=b", "#", "# a", "a #b", "&", "|", ";", ";;", "<", ">", "EOF", "\nEOF\n", "\tEOF\n\ttab", "esac", "done",
                                     "}", "${", "%s%d\\0", "a  b", " a b ", "\t", "\r\n", "é", "日本語", "\xF0\x9F\x98\x80", "\x01", "\x7f", "\x1b[0m",
                                     "\x01\x01\x7f", "[$(touch pwned)]=1", "($(touch pwned))", "([$(touch pwned)]=1)", "x[$(touch pwned)]",
                                     "() { :; }; touch pwned", "&1", "true", "-5", "0x10", "\xC3\x81\xC2\x88", std::string(100 * 1024, 'q') + "'\n",
                                     "é'\n" + std::string(70000, '\n')};
  static constexpr const char* kPieces[] = {"'", "\"", "\\", "\n", "$", "`", "(", ")", "{", "}", "[", "]", "*", "?", "!", "#", " ", "\t", ";", "&", "|",
                                            "<", ">", "-", "=", "~", "%", "a", "Z", "0", "é", "日", "\x01", "\x7f", "$(touch pwned)", "\n\n", "EOF\n"};
  std::mt19937 random(seed);
  while (values.size() < count) {
    std::string value;
    for (uint32_t i = random() % 30; i > 0; --i) value += kPieces[random() % std::size(kPieces)];
    values.push_back(std::move(value));
  }
  return values;
}

struct Context {
  const char* script;  // `X` is the value; prints once, ended by a NUL
  std::string (*expected)(const std::string&);
};

std::string Same(const std::string& v) { return v; }
std::string Yes(const std::string&) { return "yes"; }
std::string WithNewline(const std::string& v) { return v + "\n"; }
std::string Dotted(const std::string& v) { return v + "."; }

const Context kShellContexts[] = {
    {"printf '%s\\0' ~{X}", Same},
    {"printf '%s\\0' \"~{X}\"", Same},
    {"printf '%s\\0' '~{X}'", Same},
    {"printf '%s\\0' a~{X}*b", [](const std::string& v) { return "a" + v + "*b"; }},
    {"printf '%s\\0' \"a ${HOME_-} ~{X} b\"", [](const std::string& v) { return "a  " + v + " b"; }},
    {"printf '%s\\0' 'a \" $( ~{X} b'", [](const std::string& v) { return "a \" $( " + v + " b"; }},
    {"printf '%s\\0' --x=~{X}'~{X}'\"~{X}\"", [](const std::string& v) { return "--x=" + v + v + v; }},
    {"v=~{X}; printf '%s\\0' \"$v\"", Same},
    {"v=a:~{X}; printf '%s\\0' \"$v\"", [](const std::string& v) { return "a:" + v; }},
    {"export E=~{X}; printf '%s\\0' \"$E\"; unset E", Same},
    {"readonly_() { printf '%s\\0' \"$1\"; }; readonly_ ~{X}", Same},
    {"for f in ~{X}; do printf '%s\\0' \"$f\"; done", Same},
    {"set -- ~{X}; printf '%s%s\\0' \"$#\" \"$1\"", [](const std::string& v) { return "1" + v; }},
    {"printf '%s\\0' \"$(printf '%s.' ~{X})\"", Dotted},
    {"printf '%s\\0' \"$(printf '%s.' \"~{X}\")\"", Dotted},
    {"printf '%s\\0' \"`printf '%s.' ~{X}`\"", Dotted},
    {"v=`printf '%s.' '~{X}'`; printf '%s\\0' \"$v\"", Dotted},
    {"printf '%s\\0' \"${unset_:-~{X}}\"", Same},
    {"printf '%s\\0' ${unset_:-~{X}}", Same},
    {"printf '%s\\0' ${HOME:+~{X}}", Same},
    {"cat <<EOF\n~{X}\nEOF\nprintf '\\0'", WithNewline},
    {"cat <<-EOF\n\t~{X}\n\tEOF\nprintf '\\0'", WithNewline},
    {"cat <<EOF\n${unset_:-~{X}}\nEOF\nprintf '\\0'", WithNewline},
    {"cat <<EOF\n$(printf '%s.' ~{X})\nEOF\nprintf '\\0'", [](const std::string& v) { return v + ".\n"; }},
    {"case ~{X} in \"~{X}\") printf 'yes\\0';; *) printf 'no\\0';; esac", Yes},
    {"case ~{X}a in '~{X}'?) printf 'yes\\0';; *) printf 'no\\0';; esac", Yes},
    {"if [ ~{X} = '~{X}' ]; then printf 'yes\\0'; fi", Yes},
    {"( printf '%s' ~{X} ) | cat; printf '\\0'", Same},
};

// Matching patterns takes time quadratic in the value; these only get short ones.
const Context kShortContexts[] = {
    {"v=A~{X}; printf '%s\\0' \"${v%~{X}}\"", [](const std::string&) { return std::string("A"); }},
    {"v=~{X}A; printf '%s\\0' \"${v#~{X}}\"", [](const std::string&) { return std::string("A"); }},
    {"v=~{X}A; v=${v#~{X}}; printf '%s\\0' \"$v\"", [](const std::string&) { return std::string("A"); }},
    {"sh -c 'printf \"%s\\0\" \"$1\"' sh ~{X}", Same},
    {"env E=~{X} sh -c 'printf \"%s\\0\" \"$E\"'", Same},
};

const Context kBashContexts[] = {
    {"a=(~{X} b ~{X}); printf '%s\\0' \"${#a[@]}${a[0]}${a[2]}\"", [](const std::string& v) { return "3" + v + v; }},
    {"a=(); a+=('~{X}'); printf '%s\\0' \"${a[0]}\"", Same},
    {"declare -A m=([k]=~{X}); printf '%s\\0' \"${m[k]}\"; unset m", Same},
    {"declare -a b=(~{X}); printf '%s\\0' \"${b[0]}\"", Same},
    {"f() { local w=~{X}; printf '%s\\0' \"$w\"; }; f", Same},
    {"declare q=~{X}; printf '%s\\0' \"$q\"", Same},
    {"cat <<< ~{X}; printf '\\0'", WithNewline},
    {"cat <<< \"~{X}\"; printf '\\0'", WithNewline},
    {"cat <(printf '%s' ~{X}); printf '\\0'", Same},
    {"[[ ~{X} == \"~{X}\" ]] && printf 'yes\\0'", Yes},
    {"[[ ~{X} == '~{X}'* ]] && printf 'yes\\0'", Yes},
    {"printf -v w '%s' ~{X}; printf '%s\\0' \"$w\"", Same},
};

class ShellRun : public Run, public ::testing::WithParamInterface<Interpreter> {
 protected:
  /// Puts every value through every context, in one process.
  void Expect(const std::vector<std::string>& values, std::initializer_list<std::pair<const Context*, size_t>> tables) {
    std::string text;
    std::vector<std::string> expected;
    for (size_t i = 0; i < values.size(); ++i) {
      for (const auto& [table, size] : tables) {
        for (size_t c = 0; c < size; ++c) {
          std::string line = table[c].script;
          for (size_t at; (at = line.find("~{X}")) != std::string::npos;) line.replace(at, 4, "~{" + SourceName(static_cast<uint32_t>(i)) + "}");
          text += line + "\n";
          expected.push_back(table[c].expected(values[i]));
        }
      }
    }
    Template source = Parse(GetParam(), text);
    std::vector<HoleValue> bound;
    for (const Hole& hole : source.holes) bound.push_back({false, values[std::stoul(hole.source.substr(1))], {}});
    Outcome outcome = Script(Lower(source), bound);
    EXPECT_EQ(outcome.status, 0) << outcome.err.substr(0, 2000);
    size_t at = 0, wrong = 0;
    for (size_t i = 0; i < expected.size() && wrong < 5; ++i) {
      size_t end = outcome.out.find('\0', at);
      if (end == std::string::npos) end = outcome.out.size();
      std::string seen = outcome.out.substr(at, end - at);
      if (seen != expected[i]) {
        ++wrong;
        size_t contexts = expected.size() / values.size();
        ADD_FAILURE() << "context " << i % contexts << ", value " << i / contexts << ": " << ::testing::PrintToString(seen.substr(0, 200))
                      << " (" << seen.size() << ") instead of " << ::testing::PrintToString(expected[i].substr(0, 200)) << " ("
                      << expected[i].size() << ")";
      }
      at = std::min(end + 1, outcome.out.size());
    }
    EXPECT_EQ(at, outcome.out.size());
  }
};

TEST_P(ShellRun, HostileValuesArriveAsTheyAreInEveryContext) {
  Expect(HostileValues(1, 160), {{kShellContexts, std::size(kShellContexts)}});
}

TEST_P(ShellRun, ShortValuesAreTextInPatternsAndReachChildren) {
  std::vector<std::string> values;
  for (std::string& v : HostileValues(2, 130)) {
    if (v.size() < 1000) values.push_back(std::move(v));
  }
  Expect(values, {{kShortContexts, std::size(kShortContexts)}});
}

TEST_P(ShellRun, AMebibyteFitsIntoBuiltinsAssignmentsAndHereDocuments) {
  std::string large;
  std::mt19937 random(3);
  while (large.size() < (1u << 20)) large += "'\"\\$`\n aé*"[random() % 11];
  for (char& c : large) {
    if (c == '\0' || static_cast<unsigned char>(c) >= 0x80) c = 'q';
  }
  large += "\n\n";
  Expect({large}, {{kShellContexts, std::size(kShellContexts)}});
}

/// Random scripts with the shell's nesting, and now and then a piece that does not belong there.
class ScriptMaker {
 public:
  ScriptMaker(std::mt19937& random, bool bash, const char* const* pieces, size_t count)
      : random_(random), bash_(bash), pieces_(pieces), count_(count) {}

  std::string Script() {
    std::string text = "set +eu\n";
    for (uint32_t i = 1 + Roll(3); i > 0; --i) text += Command(0) + "\n";
    return text;
  }

 private:
  uint32_t Roll(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  std::string Noise() { return Roll(40) == 0 ? pieces_[Roll(static_cast<uint32_t>(count_))] : ""; }
  std::string Literal() {
    static constexpr const char* kTexts[] = {"a", "b c", "#", "*", "-", "=", "{", "}", "[", "]", "!", "%", "\n", "  ", "~", ":", "e1"};
    return kTexts[Roll(std::size(kTexts))];
  }
  std::string BareLiteral() {
    static constexpr const char* kTexts[] = {"a", "b", "-", "=", "x=", "%", "\\\\", "\\\"", "\\'", "\\$", "\\\n", "$HOME", "$", "*", "a#", "{a,b}", "!", "\\`"};
    return kTexts[Roll(std::size(kTexts))];
  }
  std::string Single() { return "'" + (Roll(2) ? Literal() : std::string("\"$(`\\")) + (Roll(3) ? "" : "~{x}") + Noise() + "'"; }
  std::string Substitution(int depth) {
    switch (Roll(3)) {
      case 0: return "`echo " + (Roll(2) ? Bare(depth + 3) : "\"~{x}\"") + "`";
      default: return "$(" + Noise() + (Roll(6) ? "" : "# it's ) `\n") + Command(depth + 1) + (Roll(3) ? "" : "\n") + ")";
    }
  }
  std::string Double(int depth) {
    std::string text;
    for (uint32_t i = Roll(4); i > 0; --i) {
      switch (Roll(depth > 4 ? 4 : 8)) {
        case 0: text += "~{x}"; break;
        case 1: text += Literal(); break;
        case 2: text += Roll(2) ? "\\\"" : "'"; break;
        case 3: text += Roll(2) ? "\\\\" : "$HOME"; break;
        case 4: text += Substitution(depth + 1); break;
        case 5: text += "${u:-" + Double(depth + 1) + "}"; break;
        case 6: text += "${HOME%" + Bare(depth + 1) + "}"; break;
        default: text += "$((" + Arithmetic(depth + 1) + "))"; break;
      }
    }
    return text + Noise();
  }
  std::string Bare(int depth) {
    std::string text;
    for (uint32_t i = 1 + Roll(3); i > 0; --i) {
      switch (Roll(depth > 4 ? 5 : 10)) {
        case 0:
        case 1: text += "~{x}"; break;
        case 2: text += BareLiteral(); break;
        case 3: text += Single(); break;
        case 4: text += "a"; break;
        case 5: text += "\"" + Double(depth + 1) + "\""; break;
        case 6: text += Substitution(depth + 1); break;
        case 7: text += "${u:-" + Bare(depth + 1) + "}"; break;
        case 8: text += bash_ && Roll(2) ? "<(" + Command(depth + 1) + ")" : "${HOME#" + Bare(depth + 1) + "}"; break;
        default: text += Roll(2) ? "$'a\\n'" : "$((" + Arithmetic(depth + 1) + "))"; break;
      }
    }
    return text + Noise();
  }
  std::string Arithmetic(int) {
    static constexpr const char* kParts[] = {"1", "~{n}", "(2)", "1+~{n}", "3-~{n}", "i=~{n}", "${u:-~{n}}", "\"~{n}\""};
    // No value in a substitution here: what a program prints is not the value any more, and arithmetic evaluates it.
    return kParts[Roll(std::size(kParts))] + (Roll(4) ? std::string() : Roll(2) ? "+$(echo 2)" : "+`echo \\`echo 2\\``") + Noise();
  }
  std::string Words(int depth) {
    std::string text;
    for (uint32_t i = Roll(4); i > 0; --i) text += " " + Bare(depth);
    return text;
  }
  std::string Command(int depth) {
    if (depth > 3) return "echo " + Bare(depth + 1);
    std::string w = Bare(depth + 1);
    switch (Roll(bash_ ? 26 : 18)) {
      case 0: return "v=" + w;
      case 1: return "v=" + w + " w=" + Bare(depth + 1) + " printf '%s'" + Words(depth + 1);
      case 2: return "for i in" + Words(depth + 1) + "; do " + Command(depth + 1) + "; done";
      case 3: return "if " + Command(depth + 1) + "; then " + Command(depth + 1) + "\nelse\n" + Command(depth + 1) + "\nfi";
      case 4: return "case " + w + " in a|\"" + Double(depth + 1) + "\") " + Command(depth + 1) + ";; (*) " + Command(depth + 1) + "\n;; esac";
      case 5: return "{ " + Command(depth + 1) + "; }";
      case 6: return "( " + Command(depth + 1) + " )";
      case 7: return Command(depth + 1) + " | cat";
      case 8: return Command(depth + 1) + " && " + Command(depth + 1);
      case 9: return "cat <<EOF" + std::string(Roll(2) ? " | cat" : "") + "\n" + Double(depth + 1) + "\n" + (Roll(3) ? "" : "x\\\n") + "EOF\n";
      case 10: return "cat <<-'E F'\n\t$(`\"'\n\tE F\necho " + w;
      case 11: return "cat <<A <<B\n" + Double(depth + 1) + "\nA\n" + Double(depth + 1) + "\nB\n";
      case 12: return "f() { " + Command(depth + 1) + "; }; f" + Words(depth + 1);
      case 13: return "export v=" + w;
      case 14: return "[ " + w + " = b ] # it's \"\n";
      case 15: return "echo" + Words(depth + 1) + " >/dev/null 2>&1";
      case 16: return "set --" + Words(depth + 1);
      case 17: return "sh -c 'echo \"$1\"' sh " + w;
      case 18: return "[[ " + w + " == \"" + Double(depth + 1) + "\"* ]]";
      case 19: return "a=(" + w + "\n" + Bare(depth + 1) + " # '\n)";
      case 20: return "declare v=" + w;
      case 21: return "cat <<< " + w;
      case 22: return "(( " + Arithmetic(depth + 1) + " ))";
      case 23: return "[[ " + w + " =~ ^(a|b )$ && -n " + Bare(depth + 1) + " ]]";
      case 24: return "a[" + Arithmetic(depth + 1) + "]=" + w;
      default: return "for ((i = 0; i < 1; i++)); do " + Command(depth + 1) + "; done";
    }
  }

  std::mt19937& random_;
  bool bash_;
  const char* const* pieces_;
  size_t count_;
};

/// Scripts of random pieces. Whatever the scanner accepts must keep the promise, however odd: the value, which is made of
/// what leaves every kind of quotes and then runs a command, is never run.
TEST_P(ShellRun, NoAcceptedScriptEverRunsAValue) {
  static constexpr const char* kPieces[] = {
      "echo ", "printf %s ", ": ", "cat ", "~{x}", "~{x}", "~{x}", "\"~{x}\"", "'~{x}'", "a~{x}b", "'", "\"", "`", "$(", ")", "\"$(", ")\"",
      "${u:-", "${u-", "${HOME%", "${HOME#", "${HOME+", "${HOME/", "}", "$((", "))", "((", "1", "+", "~{n}", "\\", "\\\n", "\n", "\n", "; ", " ",
      " ", " && ", " || ", " | ", "<<EOF\n", "\nEOF\n", "<<'EOF'\n", "<<-EOF\n", "\tEOF\n", "<<<", "< ", "<(", "case ", " in ", "a) ", "*) ", ";; ",
      " esac", "for i in ", "; do ", " done", "if ", "; then ", " fi", "{ ", "; }", "( ", " )", "f() ", "a=", "a=(", "a+=(", "b[", "]", "]=", "[[ ",
      " ]]", " == ", " =~ ", " = ", " -eq ", "[ ", " ]", "# ", "#", "$", "$'", "$\"", "\\'", "\\\"", "\\`", "declare ", "declare -a ", "export ",
      "local ", "let ", "eval ", "sh -c ", "bash -c ", "-c ", "env ", "[ -v ", "test ", "printf -v ", "read ", "trap ", "@(", "!", "! ", "{", "$[",
      "declare -i i; i=", "bash ", "time ", "a", "b ", "-", "=", ":", "/", "//", "%", "^", "@Q", "#", "exec ", "command ", "unset "};
  const char* scale = getenv("JOBC_SCRIPT_ROUNDS");
  const int rounds = scale ? std::atoi(scale) : 150;
  const char* seed = getenv("JOBC_SCRIPT_SEED");
  std::mt19937 random(static_cast<uint32_t>(seed ? std::atoi(seed) : 11));
  may_leave_files_ = true;
  const std::string touch = "touch \"" + root_ + "/pwned\"";
  const std::string values[] = {
      "$(" + touch + ")`" + touch + "`", "'; " + touch + "; '", "\"; " + touch + "; \"", "\n" + touch + "\n", "}; " + touch + "; ", "x[$(" + touch + ")]",
      "([$(" + touch + ")]=1)", ")); " + touch + "; ((", "\\\"; " + touch + " #", "]; " + touch + "; [", "\nEOF\n" + touch + "\n", "` " + touch + " `"};
  int accepted = 0;
  for (int round = 0; accepted < rounds && round < rounds * 200; ++round) {
    std::string text;
    if (round % 4 == 0) {
      for (uint32_t i = 2 + random() % 14; i > 0; --i) text += kPieces[random() % std::size(kPieces)];
    } else {
      text = ScriptMaker(random, GetParam() == Interpreter::Bash, kPieces, std::size(kPieces)).Script();
    }
    if (text.find("~{x}") == std::string::npos) continue;
    Template source = Parse(GetParam(), text);
    Lowered lowered = Lower(source);
    if (lowered.has_errors()) continue;
    ++accepted;
    std::vector<HoleValue> bound;
    for (const Hole& hole : source.holes) bound.push_back({false, hole.kind == HoleKind::Number ? "-5" : values[random() % std::size(values)], {}});
    Result<Launch> launch = Bind({&lowered, &bound}, private_dir());
    ASSERT_TRUE(launch.ok());
    launch->argv.insert(launch->argv.begin(), {"timeout", "-s", "KILL", "1"});
    Start(*launch);
    ASSERT_FALSE(std::filesystem::exists(root_ + "/pwned")) << text << "\n---\n" << lowered.text;
  }
  EXPECT_EQ(accepted, rounds);
}

TEST_P(ShellRun, ChildrenSeeNoneOfTheVariables) {
  Template source = Parse(GetParam(), "env; printf '%s%s\\0' ~{tiny} ~{big} >/dev/null\n");
  Outcome outcome = Script(Lower(source), {{false, "marker", {}}, {false, std::string(200000, 'm'), {}}});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out, Not(HasSubstr("JOBC")));
  EXPECT_THAT(outcome.out, Not(HasSubstr("marker")));
}

TEST_P(ShellRun, AnOptionalIsOneWordOrNone) {
  Template source = Parse(GetParam(), "set -- ~{o1...} ~{o2...} ~{o3...}\nprintf '[%s]' \"$#\" \"$@\"\n");
  Outcome outcome = Script(Lower(source), {{true, "", {}}, {false, "", {}}, {false, "a  *\n", {}}});
  EXPECT_EQ(outcome.out, "[2][][a  *\n]");
}

TEST_P(ShellRun, LineNumbersInMessagesAreThoseOfTheHeredoc) {
  Template source = Parse(GetParam(), "printf %s ~{x} >/dev/null\n\nno-such-command-of-jobc\n");
  Outcome outcome = Script(Lower(source), {{false, "a\nb", {}}});
  EXPECT_EQ(outcome.status, 127);
  EXPECT_THAT(outcome.err, testing::AnyOf(HasSubstr("script: line 3: "), HasSubstr("script: 3: ")));
}

TEST_P(ShellRun, AScriptThatBeginsWithADashIsNoOption) {
  Outcome outcome = Script(Lower(Parse(GetParam(), "-x\n")), {});
  EXPECT_EQ(outcome.status, 127);
}

TEST_P(ShellRun, AnUnsetVariableAndAFailureEndTheScript) {
  EXPECT_NE(Script(Lower(Parse(GetParam(), "echo $unset_\necho on\n")), {}).status, 0);
  Outcome outcome = Script(Lower(Parse(GetParam(), "(exit 7)\necho on\n")), {});
  EXPECT_EQ(outcome.status, 7);
  EXPECT_EQ(outcome.out, "");
}

TEST_P(ShellRun, AScriptTooLongForACommandLineGoesThroughAFile) {
  std::string text;
  while (text.size() < 300000) text += "x=~{x}\n";
  Lowered lowered = Lower(Parse(GetParam(), text + "printf %s \"$x\"\n"));
  Outcome outcome = Script(lowered, std::vector<HoleValue>(lowered.bindings.size(), {false, "v'", {}}));
  EXPECT_EQ(outcome.out, "v'");
}

TEST_P(ShellRun, ManyValuesDoNotFillTheEnvironment) {
  std::string text;
  std::vector<HoleValue> values;
  for (uint32_t i = 0; i < 100; ++i) {
    text += "printf %s ~{" + SourceName(i) + "}\n";
    values.push_back({false, std::string(60000, static_cast<char>('a' + i % 26)), {}});
  }
  Outcome outcome = Script(Lower(Parse(GetParam(), text)), values);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out.size(), 100u * 60000u);
}

TEST_P(ShellRun, ANulByteAndANullAreErrors) {
  Lowered lowered = Lower(Parse(GetParam(), "echo ~{x}\n"));
  std::vector<HoleValue> nul = {{false, std::string("a\0b", 3), {}}}, null = {{true, "", {}}}, none;
  Result<Launch> launch = Bind({&lowered, &nul}, "/p");
  ASSERT_FALSE(launch.ok());
  EXPECT_THAT(launch.error().message, HasSubstr("`~{x}` holds a NUL byte"));
  launch = Bind({&lowered, &null}, "/p");
  ASSERT_FALSE(launch.ok());
  EXPECT_THAT(launch.error().message, HasSubstr("is null"));
  EXPECT_FALSE(Bind({&lowered, &none}, "/p").ok());
}

INSTANTIATE_TEST_SUITE_P(, ShellRun, ::testing::Values(Interpreter::Sh, Interpreter::Bash),
                         [](const auto& info) { return std::string(Tag(info.param)); });

class BashRun : public ShellRun {};

TEST_P(BashRun, HostileValuesArriveAsTheyAreInItsOwnContexts) {
  Expect(HostileValues(4, 160), {{kBashContexts, std::size(kBashContexts)}});
}

TEST_P(BashRun, AListIsItsElementsAsWords) {
  std::vector<std::string> words = HostileValues(5, 200);
  Template source = Parse(GetParam(),
                          "printf '%s\\0' ~{l...}\n"
                          "a=(b ~{l...} c); printf '%s\\0' \"${a[@]}\"\n"
                          "for f in ~{l...}; do printf '%s\\0' \"$f\"; done\n"
                          "set -- ~{lempty...}; printf '%s\\0' $#\n"
                          "for f in ~{lempty...} ~{lnull...}; do echo never; done\n"
                          "a=(~{lempty...}); printf '%s\\0' ${#a[@]}\n");
  std::vector<HoleValue> values;
  for (const Hole& hole : source.holes) {
    HoleValue value;
    if (hole.source == "l") value.words = words;
    value.null = hole.source == "lnull";
    values.push_back(std::move(value));
  }
  Outcome outcome = Script(Lower(source), values);
  std::string all, expected;
  for (const std::string& word : words) all += word + '\0';
  using std::string_literals::operator""s;
  expected = all + "b\0"s + all + "c\0"s + all + "0\0"s + "0\0"s;
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(outcome.out == expected) << outcome.out.size() << " " << expected.size();
}

INSTANTIATE_TEST_SUITE_P(, BashRun, ::testing::Values(Interpreter::Bash), [](const auto&) { return "BASH"; });

std::string JsonText(const std::string& value) { return nlohmann::json(value).dump(); }

TEST_F(Run, PythonGetsEveryValueAsItIs) {
  std::vector<std::string> values = HostileValues(6, 200);
  values.push_back(std::string(1 << 20, '"'));
  std::string text = "import sys, json\nout = sys.stdout.buffer\ndef p(v): out.write(v.encode() + b'\\0')\n";
  std::vector<HoleValue> bound;
  std::string expected;
  for (uint32_t i = 0; i < values.size(); ++i) {
    std::string x = "~{" + SourceName(i) + "}";
    text += "p(" + x + "); p(f\"{" + x + "}\"); p(f'''a{" + x + ":s}b'''); p('%s' % " + x + ")\n";
    for (int k = 0; k < 4; ++k) bound.push_back({false, JsonText(values[i]), {}});
    for (const std::string& v : {values[i], values[i], "a" + values[i] + "b", values[i]}) expected += v + '\0';
  }
  Outcome outcome = Script(Lower(Parse(Interpreter::Python, text)), bound);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(outcome.out == expected) << outcome.out.size() << " " << expected.size();
}

TEST_F(Run, PythonGetsTypesAndALineNumberThatCanBeMapped) {
  Lowered lowered = Lower(Parse(Interpreter::Python, "print([~{n1}, ~{n2}, ~{n3}, ~{x}, ~{l}, ~{m}])\n1/0\n"));
  std::vector<HoleValue> values = {{false, "9223372036854775807", {}}, {false, "0.1", {}}, {false, "true", {}}, {true, "", {}},
                                   {false, "[1,\"a\"]", {}}, {false, "{\"k\":null}", {}}};
  Outcome outcome = Script(lowered, values);
  EXPECT_EQ(outcome.out, "[9223372036854775807, 0.1, True, None, [1, 'a'], {'k': None}]\n");
  EXPECT_THAT(outcome.err, HasSubstr("line " + std::to_string(2 + lowered.line_offset) + ", in <module>"));
  values[0].text = "{";
  EXPECT_FALSE(Bind({&lowered, &values}, "/p").ok());
  values[0].text = "\"a\\u0000\"";
  EXPECT_FALSE(Bind({&lowered, &values}, "/p").ok());
}

TEST_F(Run, PythonKeepsItsFutureImports) {
  Lowered lowered = Lower(Parse(Interpreter::Python, "'''doc'''\nfrom __future__ import annotations\nprint(__doc__, ~{x})\n"));
  EXPECT_EQ(Script(lowered, {{false, "\"v\"", {}}}).out, "doc v\n");
}

TEST_F(Run, TheSampleOfTheLanguagePageWritesItsTable) {
  may_leave_files_ = true;
  Lowered lowered = Lower(Parse(Interpreter::Python,
                                "import json, os, pathlib\n"
                                "rows = [f\"{~{ni}},{k}\" for k in range(3)]   # ~{ni} is an expression here\n"
                                "pathlib.Path(~{f}).write_text(\"\\n\".join(rows))\n"));
  // The value in the comment is the name of the bound one, so it is harmless.
  EXPECT_FALSE(lowered.has_errors());
  Outcome outcome = Script(lowered, {{false, "7", {}}, {false, "7", {}}, {false, "\"table.csv\"", {}}});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  std::ifstream table(root_ + "/output/table.csv");
  std::stringstream content;
  content << table.rdbuf();
  EXPECT_EQ(content.str(), "7,0\n7,1\n7,2");
}

TEST_F(Run, RGetsEveryValueAsItIs) {
  if (!Installed("Rscript")) GTEST_SKIP() << "Rscript is not installed";
  std::vector<std::string> values = HostileValues(8, 200);
  values.push_back(std::string(1 << 20, '"'));
  std::string text = "con <- pipe('cat', 'wb')\np <- function(v) writeBin(c(charToRaw(enc2utf8(v)), as.raw(0)), con)\n";
  std::vector<HoleValue> bound;
  std::string expected;
  for (uint32_t i = 0; i < values.size(); ++i) {
    std::string x = "~{" + SourceName(i) + "}";
    text += "p(" + x + "); p(paste0('a', " + x + "))\n";
    for (int k = 0; k < 2; ++k) bound.push_back({false, JsonText(values[i]), {}});
    expected += values[i] + '\0' + "a" + values[i] + '\0';
  }
  Outcome outcome = Script(Lower(Parse(Interpreter::R, text + "invisible(close(con))\n")), bound);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(outcome.out == expected) << outcome.out.size() << " " << expected.size();
}

TEST_F(Run, RGetsTypes) {
  if (!Installed("Rscript")) GTEST_SKIP() << "Rscript is not installed";
  Lowered lowered = Lower(Parse(Interpreter::R,
                                "for (v in list(~{n1}, ~{n2}, ~{n3}, ~{n4}, ~{l1}, ~{l2}, ~{l3}, ~{l4}, ~{m}, ~{sx})) cat(deparse(v), '\\n')\n"
                                "cat(is.null(~{x}), ~{m}$k, ~{m}[['l']], nchar(~{y}), '\\n')\n"));
  std::vector<HoleValue> values = {{false, "5", {}},           {false, "9007199254740992", {}}, {false, "0.1", {}},    {false, "true", {}},
                                   {false, "[1,2]", {}},       {false, "[1,2.5]", {}},          {false, "[\"a\",\"é\"]", {}}, {false, "[]", {}},
                                   {false, "{\"k\":7,\"l\":[\"q\"]}", {}}, {false, "[1,\"a\",null]", {}}, {true, "", {}},
                                   {false, "{\"k\":7,\"l\":[\"q\"]}", {}}, {false, "{\"k\":7,\"l\":[\"q\"]}", {}}, {false, "\"é日\"", {}}};
  Outcome outcome = Script(lowered, values);
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(outcome.out,
            "5L \n9007199254740992 \n0.1 \nTRUE \n1:2 \nc(1, 2.5) \nc(\"a\", \"é\") \nlogical(0) \nlist(k = 7L, l = \"q\") \n"
            "list(1L, \"a\", NULL) \nTRUE 7 q 2 \n");
}

// ---- prologue and epilogue

class Wrapped : public Run {
 protected:
  Lowered LowerPart(Interpreter interpreter, std::string_view text, Part part) { return Lower(Parse(interpreter, text), part); }
  Outcome Go(const Result<Launch>& launch) {
    if (!launch) {
      ADD_FAILURE() << launch.error().message;
      return {};
    }
    return Start(*launch);
  }
  std::vector<HoleValue> none_;
  std::vector<HoleValue> one_ = {{false, "it's $(touch pwned)\n", {}}};
};

TEST_F(Wrapped, APrologueSharesTheShellOfTheScript) {
  for (Interpreter main : {Interpreter::Sh, Interpreter::Bash}) {
    for (Interpreter before : {Interpreter::Sh, Interpreter::Bash}) {
      Lowered prologue = LowerPart(before, "module_() { printf '<%s>' \"$1\"; }\nP=~{x}\nset +eu\n", Part::Prologue);
      Lowered script = LowerPart(main, "module_ \"$P\"; module_ ~{x}; echo \"$#\"; false; echo on\n", Part::Script);
      Outcome outcome = Go(Bind({&script, &one_}, private_dir(), {&prologue, &one_}));
      EXPECT_EQ(outcome.out, "<it's $(touch pwned)\n><it's $(touch pwned)\n>0\n") << outcome.err;
      EXPECT_EQ(outcome.status, 1) << "the script has its own -e again";
    }
  }
}

TEST_F(Wrapped, RunIsExecutedAfterThePrologueWithItsExactWords) {
  std::vector<std::string> argv = {"sh", "-c", "printf '%s|' \"$X\" \"$@\"; exit 5", "sh"};
  std::string expected = "1|";
  for (const std::string& v : HostileValues(9, 150)) {
    argv.push_back(v.size() > 1000 ? v.substr(0, 1000) : v);
    expected += argv.back() + "|";
  }
  Lowered prologue = LowerPart(Interpreter::Bash, "export X=1; set -- changed\n", Part::Prologue);
  Outcome outcome = Go(WrapRun(argv, private_dir(), {&prologue, &none_}, {}));
  EXPECT_EQ(outcome.out, expected);
  EXPECT_EQ(outcome.status, 5);
}

TEST_F(Wrapped, WithoutPrologueAndEpilogueRunStaysAsItIs) {
  Result<Launch> launch = WrapRun({"a", "b c"}, "/p", {}, {});
  ASSERT_TRUE(launch.ok());
  EXPECT_THAT(launch->argv, ElementsAre("a", "b c"));
  EXPECT_TRUE(launch->files.empty());
  EXPECT_TRUE(launch->env.empty());
}

TEST_F(Wrapped, TheExitCodeIsThatOfTheScriptAndTheEpilogueSeesIt) {
  Lowered script = LowerPart(Interpreter::Bash, "echo main ~{x}; exit 3\n", Part::Script);
  Lowered epilogue = LowerPart(Interpreter::Sh, "printf '%s ' \"$JOB_EXIT\" ~{x}; env\n", Part::Epilogue);
  Outcome outcome = Go(Bind({&script, &one_}, private_dir(), {}, {&epilogue, &one_}));
  EXPECT_EQ(outcome.status, 3) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("main it's $(touch pwned)\n\n3 it's $(touch pwned)\n "));
  EXPECT_THAT(outcome.out, HasSubstr("JOB_EXIT=3"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("JOBC_")));
}

TEST_F(Wrapped, AFailingEpilogueIsToldAndHidesNothing) {
  for (int code : {0, 4}) {
    Lowered script = LowerPart(Interpreter::Sh, "exit " + std::to_string(code) + "\n", Part::Script);
    Lowered epilogue = LowerPart(Interpreter::Bash, "exit 9\n", Part::Epilogue);
    Outcome outcome = Go(Bind({&script, &none_}, private_dir(), {}, {&epilogue, &none_}));
    EXPECT_EQ(outcome.status, code);
    EXPECT_THAT(outcome.err, HasSubstr("the epilogue ended with exit code 9"));
  }
}

TEST_F(Wrapped, AFailingPrologueEndsTheJobWithItsCodeAndTheEpilogueRuns) {
  Lowered script = LowerPart(Interpreter::Python, "print('never')\n", Part::Script);
  Lowered epilogue = LowerPart(Interpreter::Sh, "echo after $JOB_EXIT\n", Part::Epilogue);
  for (auto [text, code] : {std::pair{"no-such-command-of-jobc\n", 127}, std::pair{"(exit 6)\n", 6}}) {
    Lowered prologue = LowerPart(Interpreter::Bash, text, Part::Prologue);
    Outcome outcome = Go(Bind({&script, &none_}, private_dir(), {&prologue, &none_}, {&epilogue, &none_}));
    EXPECT_EQ(outcome.status, code);
    EXPECT_EQ(outcome.out, "after " + std::to_string(code) + "\n");
  }
}

TEST_F(Wrapped, PythonRunsBetweenPrologueAndEpilogueOfItsOwnKind) {
  Lowered prologue = LowerPart(Interpreter::Sh, "export X=set\n", Part::Prologue);
  Lowered script = LowerPart(Interpreter::Python, "import os, sys; print(os.environ['X'], ~{x}, flush=True); sys.exit(2)\n", Part::Script);
  Lowered epilogue = LowerPart(Interpreter::Python, "import os; print(os.environ['JOB_EXIT'], ~{y})\n", Part::Epilogue);
  std::vector<HoleValue> a = {{false, "\"a\"", {}}}, b = {{false, "\"b\"", {}}};
  Outcome outcome = Go(Bind({&script, &a}, private_dir(), {&prologue, &none_}, {&epilogue, &b}));
  EXPECT_EQ(outcome.out, "set a\n2 b\n") << outcome.err;
  EXPECT_EQ(outcome.status, 2);
}

TEST_F(Wrapped, TheEpilogueRunsAfterATermThatReachesOnlyTheWrapper) {
  Lowered script = LowerPart(Interpreter::Sh, "echo ready; exec sleep 60\n", Part::Script);
  Lowered epilogue = LowerPart(Interpreter::Sh, "echo after $JOB_EXIT\n", Part::Epilogue);
  Result<Launch> launch = Bind({&script, &none_}, private_dir(), {}, {&epilogue, &none_});
  ASSERT_TRUE(launch.ok());
  Outcome outcome = Start(*launch, [](pid_t pid, const std::string&) { kill(pid, SIGTERM); });
  EXPECT_EQ(outcome.out, "ready\nafter 143\n");
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(outcome.status, 143);
}

TEST_F(Wrapped, AProgramThatHandlesTermKeepsItsOwnExitCode) {
  Lowered script = LowerPart(Interpreter::Sh, "trap 'exit 21' TERM\necho ready\nwhile :; do sleep 0.02 || :; done\n", Part::Script);
  Lowered epilogue = LowerPart(Interpreter::Sh, "echo after $JOB_EXIT\n", Part::Epilogue);
  Result<Launch> launch = Bind({&script, &none_}, private_dir(), {}, {&epilogue, &none_});
  ASSERT_TRUE(launch.ok());
  Outcome outcome = Start(*launch, [](pid_t pid, const std::string&) { kill(-pid, SIGTERM); });
  EXPECT_EQ(outcome.out, "ready\nafter 21\n") << outcome.err;
  EXPECT_EQ(outcome.status, 21);
}

TEST_F(Wrapped, AJobThatASignalEndsLeavesNoNoiseOfTheWrapper) {
  Lowered script = LowerPart(Interpreter::Sh, "echo own >&2; kill -KILL $$\n", Part::Script);
  Lowered epilogue = LowerPart(Interpreter::Sh, "echo after $JOB_EXIT >&2\n", Part::Epilogue);
  Outcome outcome = Go(Bind({&script, &none_}, private_dir(), {}, {&epilogue, &none_}));
  EXPECT_EQ(outcome.err, "own\nafter 137\n");
  EXPECT_EQ(outcome.status, 137);
}

TEST_F(Wrapped, APrologueMustBeAShellScript) {
  Lowered script = LowerPart(Interpreter::Sh, "echo\n", Part::Script);
  Lowered prologue = LowerPart(Interpreter::Python, "print()\n", Part::Prologue);
  EXPECT_FALSE(Bind({&script, &none_}, "/p", {&prologue, &none_}).ok());
}

}  // namespace
}  // namespace jobc::script
