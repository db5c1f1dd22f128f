// What formatting must never do, tried on everything there is and on programs drawn at random: change what a file means,
// lose or move a comment, or find something to change in its own result.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "compiler/ast/dump.h"
#include "compiler/format/format.h"
#include "compiler/parse/parse.h"

namespace jobc {
namespace {

struct Looked {
  std::string faults;
  std::string tree;
  std::vector<std::string> comments;
};

Looked LookAt(const std::string& text) {
  SourceManager sources;
  Diagnostics diags;
  const SourceId source = sources.Add("test.job", text);
  const ast::File file = Parse(source, sources, diags);
  Looked looked{"", DumpAst(file, sources, false), {}};
  for (const ast::Comment& comment : file.comments) looked.comments.emplace_back(sources.Text(comment.span));
  for (const Span& docs : file.dangling_docs) looked.comments.push_back("dangling: " + std::string(sources.Text(docs)));
  for (const Diagnostic& each : diags.all()) {
    const LineColumn at = sources.Locate(source, each.primary.span.begin);
    if (each.kind->severity == Severity::Error) looked.faults += fmt::format("{}:{} {}\n", at.line, at.column, each.message);
  }
  return looked;
}

std::optional<std::string> Formatted(const std::string& text) {
  SourceManager sources;
  Diagnostics diags;
  return Format(sources.Add("test.job", text), sources, diags);
}

/// True if the text could be formatted at all; everything promised about the result is expected.
bool KeepsItsPromises(const std::string& text) {
  const Looked before = LookAt(text);
  const std::optional<std::string> once = Formatted(text);
  EXPECT_EQ(once.has_value(), before.faults.empty()) << text;
  if (!once) return false;
  const Looked after = LookAt(*once);
  EXPECT_EQ(after.faults, "") << text << "\n---- became\n" << *once;
  EXPECT_EQ(after.tree, before.tree) << text << "\n---- became\n" << *once;
  EXPECT_EQ(after.comments, before.comments) << text << "\n---- became\n" << *once;
  EXPECT_EQ(Formatted(*once).value_or("a syntax error"), *once) << "formatted twice:\n" << text;
  EXPECT_EQ(once->find('\r'), std::string::npos);
  EXPECT_TRUE(once->empty() || (once->ends_with('\n') && !once->ends_with("\n\n"))) << *once;
  return true;
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string WithCrlf(const std::string& text) {
  std::string out = "\xEF\xBB\xBF";
  for (const char c : text) {
    if (c == '\n') out += '\r';
    out += c;
  }
  return out;
}

TEST(FormatProperties, HoldForEverySourceOfTheProject) {
  int formatted = 0, refused = 0;
  for (const char* directory : {"tests", "examples", "stdlib"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
      if (entry.path().extension() != ".job") continue;
      SCOPED_TRACE(entry.path().string());
      const std::string text = ReadFile(entry.path());
      if (!KeepsItsPromises(text)) {
        ++refused;
        continue;
      }
      ++formatted;
      if (text.find('\r') == std::string::npos && !text.starts_with("\xEF")) {
        EXPECT_EQ(Formatted(WithCrlf(text)), Formatted(text)) << "line ends and byte order marks are no part of a text";
      }
    }
  }
  EXPECT_GE(formatted, 20) << "run from the root of the project";
  EXPECT_GE(refused, 5) << "there are goldens with syntax errors";
}

/// Draws programs from the grammar, with blanks, line breaks and comments wherever the language allows them.
class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  std::string Program() {
    comments_ = One(3);
    Emit("edition");
    Emit("=");
    Emit("1");
    NextItem(false, "x");
    Items(Number(1, 6), 3);
    if (One(4)) Trivia(true);
    return std::move(text_);
  }

 private:
  size_t Number(size_t low, size_t high) { return low + random_() % (high - low + 1); }
  bool One(size_t of) { return random_() % of == 0; }
  template <size_t N>
  const char* Of(const char* const (&words)[N]) {
    return words[random_() % N];
  }

  void Comment() {
    if (!text_.empty() && text_.back() != '\n' && !One(5)) text_ += std::string(Number(1, 4), ' ');
    text_ += One(5) ? "##" : "#";
    if (!One(4)) text_ += ' ';
    text_ += "c" + std::to_string(++count_);
    if (One(6)) text_ += "  ";
    text_ += '\n';
    if (One(3)) text_ += std::string(Number(0, 6), ' ');
  }
  void Trivia(bool lines) {
    const size_t what = random_() % 40;
    if (!lines || what < 26) {
      text_ += One(8) ? "  " : One(20) ? "\t" : " ";
    } else if (what < 33) {
      text_ += '\n' + std::string(Number(0, 8), ' ');
    } else if (what < 35) {
      text_ += "\n\n \n" + std::string(Number(0, 3), ' ');
    } else {
      for (size_t i = comments_ ? Number(1, 2) : Number(0, 1) * One(3); i > 0; --i) Comment();
      text_ += ' ';
    }
  }
  /// A word. `lines`: what stands before it may be spread over lines.
  void Emit(const std::string& word, bool lines = true) {
    static const std::string kBrackets = "()[]{},";
    if (text_.empty()) {
      if (One(5)) Trivia(true);
    } else if (heredoc_ && std::string(",;})]").find(word.front()) == std::string::npos) {
      text_ += '\n';
    } else if (heredoc_) {
      text_ += One(2) ? " " : "";
    } else if (!(One(2) && (kBrackets.find(word) != std::string::npos || kBrackets.find(text_.back()) != std::string::npos))) {
      Trivia(lines);
    }
    heredoc_ = false;
    text_ += word;
  }
  /// A word right behind the last one.
  void Glue(const std::string& word) { text_ += word; }

  std::string Name() { return Of({"a", "b", "rows", "bam", "sample", "s", "a_rather_long_name_of_something", "x1"}); }
  std::string AnyName() { return One(8) ? Of({"if", "for", "then", "true", "key", "max", "import", "type"}) : Name(); }

  // ---- items
  void Items(size_t count, size_t depth) {
    for (size_t i = 0; i < count; ++i) {
      const bool flag = depth < 3 && One(25);
      const bool reserved = !flag && separated_ && One(12);
      if (flag) {
        Emit("skip");
      } else if (reserved) {
        Emit(Of({"in", "else", "key", "max"}));
        Emit("=");
        Expression(1);
      } else {
        Item(depth);
      }
      if (i + 1 < count) NextItem(flag, "x");
      else if (One(4)) Emit(",");
    }
    separated_ = false;
  }
  void NextItem(bool needed, const std::string&) {
    separated_ = needed || One(2);
    if (separated_) {
      for (size_t i = Number(1, One(5) ? 3 : 1); i > 0; --i) Emit(Of({",", ";"}));
    }
    if (heredoc_) return;
    if (One(2)) text_ += One(4) ? "\n\n" : "\n";
    if (comments_ && One(4)) Comment();
  }
  void Item(size_t depth) {
    switch (random_() % (depth > 0 ? 20 : 10)) {
      case 0: case 1: case 2:
        Emit(AnyName());
        Emit("=");
        return Expression(3);
      case 3: case 4:
        Emit(AnyName());
        Emit(":");
        Type(2);
        if (One(2)) return;
        Emit("=");
        return Expression(3);
      case 5:
        Emit(One(2) ? "\"a key\"" : "\"~{x}.txt\"");
        Emit("=");
        return Expression(2);
      case 6:
        Emit("require");
        Expression(3);
        if (One(2)) return;
        Emit("else");
        return Expression(1);
      case 7:
        Emit("for");
        Loop(2);
        if (One(2)) {
          Emit("key");
          Expression(1);
        }
        if (One(2)) {
          Emit("max");
          Expression(0);
        }
        return;
      case 8:
        Emit(One(2) ? "exit" : "stderr");
        Emit("(");
        Emit(One(2) ? "137" : "re\"out of \\\"memory\\\"\"");
        if (text_.back() == '7' && One(2)) Emit("..");
        Emit(")");
        Emit("=>");
        return Expression(0);
      case 9:
        Emit("argv");
        Emit("align", false);
        Emit("[");
        Emit("\"s1\"");
        if (One(3)) Emit(",");
        Emit("]");
        Emit("=");
        return Expression(2);
      case 10:
        Emit("let");
        Emit(Name());
        if (One(2)) {
          Emit(":");
          Type(1);
        }
        Emit("=");
        return Expression(3);
      case 11:
        Emit("fn");
        Emit(Name());
        Emit("(");
        for (size_t i = Number(0, 4); i > 0; --i) {
          Emit(Name());
          Emit(":");
          Type(1);
          if (i > 1 || One(4)) Emit(",");
        }
        Emit(")");
        Emit("->");
        Type(1);
        Emit("=");
        return Expression(3);
      case 12:
        Emit("enum");
        Emit("Mode");
        Emit("{");
        for (size_t i = Number(0, 4); i > 0; --i) {
          Emit(Name());
          if (One(2)) Emit(Of({",", ";"}));
        }
        return Emit("}");
      case 13:
        Emit("type");
        Emit("Alias");
        Emit("=");
        return Type(2);
      case 14:
        Emit("import", false);
        Emit("\"./lib/qc.job\"");
        Emit("as");
        return Emit("qc");
      case 15:
        Emit("module");
        Emit("q");
        Emit("=");
        Emit("qc");
        return Block(depth);
      default:
        if (One(6)) {
          Emit("open");
          Emit("struct");
          Emit("Sample", false);
        } else if (One(3)) {
          Emit(Of({"params", "retry", "output", "resources"}));
        } else {
          Emit(Of({"job", "on", "profile", "test", "template"}));
          Emit(One(4) ? "\"a label\"" : Name(), false);
          if (One(3)) Emit("uses", false);
          if (One(6)) {
            Emit(".");
            Emit("script");
          }
          if (One(8)) {
            Emit("(");
            Emit("\"k\"");
            Emit(")");
          }
        }
        return Block(depth);
    }
  }
  void Block(size_t depth) {
    Emit("{");
    Items(Number(0, 4), depth == 0 ? 0 : depth - 1);
    Emit("}");
  }

  // ---- types
  void Type(size_t depth) {
    if (depth > 0 && One(3)) {
      Emit(One(2) ? "List" : "Map");
      Emit("<");
      if (text_.ends_with("Map") || One(3)) {
        Type(0);
        Emit(",");
      }
      Type(depth - 1);
      if (One(4)) Emit(",");
      Emit(">");
    } else {
      Emit(Of({"Int", "String", "File", "Duration"}));
      if (One(8)) {
        Emit(".");
        Emit("Sample");
      }
    }
    if (One(3)) {
      Emit("(");
      const size_t what = Number(0, 3);
      if (what == 0) {
        Emit("0");
        Emit("..");
      } else if (what == 1) {
        Emit("..");
        Expression(0);
      } else {
        Expression(depth);
      }
      Emit(")");
    }
    if (One(4)) Emit("?");
  }

  // ---- expressions
  void Loop(size_t depth) {
    Emit(Name());
    if (One(3)) {
      Emit(",");
      Emit("v");
    }
    Emit("in");
    Expression(depth);
  }
  void Chain(size_t depth, size_t level) {
    if (level == 0) return Unary(depth);
    Chain(depth, level - 1);
    if (!One(level == 4 ? 5 : 9)) return;
    switch (level) {
      case 1: Emit(Of({"*", "/", "%"})); break;
      case 2: Emit(Of({"+", "-"})); break;
      case 3: Emit("??"); break;
      case 4:
        if (One(3)) {
          Emit("..");
          return Chain(depth, level - 1);
        }
        Emit(Of({"==", "!=", "<=", ">=", "<", ">", "in"}));
        return Chain(depth, level - 1);
      case 5: Emit("&&"); break;
      default: Emit("||");
    }
    Chain(depth, One(3) ? level : level - 1);
  }
  void Expression(size_t depth) { Chain(depth, 6); }
  void Unary(size_t depth) {
    if (One(12)) Emit(Of({"!", "-"}));
    const bool suffixes = Atom(depth);
    while (suffixes && One(3)) Suffix(depth);
  }
  void Suffix(size_t depth) {
    switch (random_() % 5) {
      case 0:
        Emit(".");
        return Emit(AnyName());
      case 1:
        Emit("?.");
        return Emit(AnyName());
      case 2:
        Emit("[");
        if (One(3) || depth == 0) Emit("*");
        else Expression(depth - 1);
        if (One(4)) Emit(",");
        return Emit("]");
      default:
        Emit("(");
        for (size_t i = depth == 0 ? 0 : Number(0, 3); i > 0; --i) {
          if (One(6)) {
            Emit("...");
          } else if (One(4)) {
            Emit(AnyName());
            Emit("=");
          }
          Expression(depth - 1);
          if (i > 1 || One(5)) Emit(",");
        }
        return Emit(")");
    }
  }
  bool Atom(size_t depth) {
    switch (random_() % (depth > 0 ? 22 : 8)) {
      case 0: case 1: case 2: Emit(Name()); return true;
      case 3: Emit(Of({"1_000", "42", "0.5", "1e6", "30s", "1.5h", "4GiB", "16MiB"})); return false;
      case 4: case 5: Emit(Of({"\"text\"", "\"~{ a  +  b } and ~~{\"", "\"\\u{1F600} 😀 # no comment\"", "\"\"", "\"--a-rather-long-option-of-a-tool\""})); return false;
      case 6: Emit(Of({"true", "false", "null"})); return false;
      case 7:
        if (!One(4)) {
          Emit("re\"[a-z]+\"");
        } else {
          Heredoc();
        }
        return false;
      case 8: case 9: case 10: case 11:
        Emit("[");
        for (size_t i = Number(0, One(4) ? 12 : 3); i > 0; --i) {
          if (One(8)) Emit("...");
          Expression(depth - 1);
          if (i > 1 || One(5)) Emit(",");
        }
        Emit("]");
        return true;
      case 12: case 13:
        Emit("{");
        for (size_t i = Number(0, 3); i > 0; --i) {
          const size_t key = Number(0, 3);
          if (key == 0) {
            Emit("[");
            Expression(0);
            Emit("]");
          } else {
            Emit(key == 1 ? "\"a b\"" : key == 2 ? "7" : AnyName());
          }
          Emit("=");
          Expression(depth - 1);
          if (i > 1 || One(5)) Emit(",");
        }
        Emit("}");
        return false;
      case 14: case 15:
        Emit("[");
        Emit("for");
        Loop(depth - 1);
        if (One(2)) {
          Emit("if");
          Expression(depth - 1);
        }
        Emit(":");
        if (One(6)) Emit("...");
        Expression(depth - 1);
        Emit("]");
        return true;
      case 16:
        Emit("{");
        Emit("for");
        Loop(depth - 1);
        Emit(":");
        Emit("[");
        Expression(0);
        Emit("]");
        Emit("=");
        Expression(depth - 1);
        Emit("}");
        return false;
      case 17:
        Emit("(");
        Expression(depth - 1);
        Emit(")");
        return true;
      case 18:
        Emit("if");
        Expression(depth - 1);
        Emit("then");
        Expression(depth - 1);
        Emit("else");
        Expression(depth - 1);
        return false;
      case 19:
        Emit("match");
        Emit(Name());
        Emit("{");
        for (size_t i = Number(0, 3); i > 0; --i) {
          Emit(i == 1 ? "_" : "Mode.full");
          Emit("=>");
          Expression(depth - 1);
          if (i > 1 || One(3)) Emit(",");
        }
        Emit("}");
        return false;
      case 20:
        Emit(One(2) ? "Sample" : "process");
        Emit("{");
        for (size_t i = Number(0, 3); i > 0; --i) {
          Emit(Name());
          Emit("=");
          Expression(depth - 1);
          if (One(2)) Emit(Of({",", ";"}));
        }
        Emit("}");
        return false;
      default:
        Emit("parse_json");
        Emit("(");
        Expression(depth - 1);
        Emit(",");
        Type(1);
        if (One(3)) Emit(",");
        Emit(")");
        return true;
    }
  }
  void Heredoc() {
    const std::string tag = Of({"SH", "BASH", "PY", "TXT", "TXT_2"});
    Emit("<<~" + tag);
    text_ += std::string(Number(0, 2), ' ') + "\n";
    const std::string base(Number(0, 9), One(6) ? '\t' : ' ');
    for (size_t i = Number(0, 6); i > 0; --i) {
      switch (random_() % 8) {
        case 0: text_ += "\n"; break;
        case 1: text_ += base + "   \n"; break;
        case 2: text_ += " \n"; break;
        case 3: text_ += base + "echo ~{ a+b } # no comment  \n"; break;
        case 4: text_ += base + "~{\n a\n   + b} ~~{x}\n"; break;
        case 5: text_ += base + std::string(Number(0, 4), base.starts_with('\t') ? '\t' : ' ') + "if x; then  \n"; break;
        default: text_ += base + "cat \"$1\"\n"; break;
      }
    }
    text_ += std::string(Number(0, 4), ' ') + tag;
    heredoc_ = true;
  }

  std::mt19937_64 random_;
  std::string text_;
  int count_ = 0;
  bool comments_ = false;
  bool separated_ = false;
  bool heredoc_ = false;  ///< the last word ends one
};

TEST(FormatProperties, HoldForRandomPrograms) {
  const char* const asked = std::getenv("JOBC_FORMAT_PROGRAMS");
  const int count = asked != nullptr ? std::atoi(asked) : 600;
  int valid = 0;
  for (int seed = 1; seed <= count && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    valid += KeepsItsPromises(Generator(static_cast<uint64_t>(seed)).Program());
  }
  EXPECT_GE(valid, count / 2) << "too few of the drawn programs are programs";
}

}  // namespace
}  // namespace jobc
