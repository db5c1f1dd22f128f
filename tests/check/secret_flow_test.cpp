// A secret goes into `env`, `secret_files` and `Secret` parameters, through strings and functions, and nowhere else: whatever
// expression it is put into, at whatever depth and behind whatever function, template or module, it is either still a secret
// or E402. Random expressions against an oracle of a few lines; JOBC_SEED repeats one.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ir/builtins.h"
#include "tests/check/fixture.h"

namespace jobc {
namespace {

using ir::SigType;

constexpr std::string_view kSecrets = R"(secret token = env("TOKEN")
secret key = file("key.pem")
fn bearer(s: Secret) -> Secret = "Bearer ~{s}"
fn both(a: Secret, b: Secret) -> Secret = "~{a}:~{b}"
fn twice(s: Secret) -> Secret = both(bearer(s), bearer("~{s}"))
fn tell(s: String) -> String = "said ~{s}"
)";

/// Checks declarations after the prelude and the secrets; warnings do not count.
std::string Errors(const std::string& declarations, std::string* rendered = nullptr) {
  Outcome outcome = CheckText(std::string(kPrelude) + std::string(kSecrets) + declarations);
  if (rendered != nullptr) *rendered = outcome.rendered;
  std::string codes;
  for (const Diagnostic& d : outcome.diagnostics) {
    if (d.kind->severity == Severity::Error) codes += (codes.empty() ? "" : " ") + std::string(d.kind->code);
  }
  return codes;
}

bool Leaks(const std::string& declarations) { return Errors(declarations).find("E402") != std::string::npos; }

std::string Job(const std::string& body) { return "job victim {\n" + body + "\n}\n"; }

/// An expression of the type of a parameter, or with `secret` somewhere in it; "" where none can be written.
std::string Argument(const ir::Signature& signature, const SigType& type, const std::string* secret) {
  switch (type.kind) {
    case SigType::Kind::Basic:
      if (secret != nullptr) return *secret;
      switch (type.basic) {
        case ir::TypeKind::String: return "params.s";
        case ir::TypeKind::Int: return "1";
        case ir::TypeKind::Float: return "1.5";
        case ir::TypeKind::Bool: return "true";
        case ir::TypeKind::File: return "params.file";
        case ir::TypeKind::Dir: return "params.dir";
        case ir::TypeKind::Json: return "params.j";
        case ir::TypeKind::Regex: return "re\"a\"";
        default: return "";
      }
    case SigType::Kind::Var:
      if (secret != nullptr) return *secret;
      return signature.variables[type.var].constraint == ir::Constraint::Num ? "1" : "params.s";
    case SigType::Kind::List: {
      std::string element = Argument(signature, type.args[0], secret);
      return element.empty() ? "" : "[" + element + "]";
    }
    case SigType::Kind::Map: {
      std::string value = Argument(signature, type.args[1], secret);
      return value.empty() ? "" : "{ k = " + value + " }";
    }
    case SigType::Kind::Optional: return Argument(signature, type.args[0], secret);
    case SigType::Kind::Pair: return "";
    case SigType::Kind::Type: return secret != nullptr ? "" : "Int";
  }
  return "";
}

TEST(SecretFlow, NoBuiltInTakesOne) {
  const std::vector<std::string> secrets = {"token", "\"x~{token}y\"", "bearer(token)", "twice(\"~{key}\")"};
  size_t tried = 0;
  for (size_t b = 0; b < ir::kBuiltinCount; ++b) {
    const ir::BuiltinInfo& info = ir::InfoOf(static_cast<ir::Builtin>(b));
    for (const ir::Signature& signature : info.signatures) {
      for (size_t hole = 0; hole < signature.params.size(); ++hole) {
        for (const std::string& secret : secrets) {
          std::string call = std::string(info.name) + "(";
          bool possible = true;
          for (size_t i = 0; i < signature.params.size(); ++i) {
            std::string argument = Argument(signature, signature.params[i], i == hole ? &secret : nullptr);
            possible = possible && !argument.empty();
            call += (i == 0 ? "" : ", ") + argument;
          }
          call += ")";
          if (!possible) continue;
          ++tried;
          EXPECT_TRUE(Leaks("let x = " + call + "\n")) << call << ": " << Errors("let x = " + call + "\n");
          EXPECT_TRUE(Leaks(Job("env { A = \"~{" + call + "}\" }\nrun = [\"x\"]"))) << call;
        }
      }
    }
  }
  EXPECT_GT(tried, 200u);
}

TEST(SecretFlow, OnlyCarriersTakeOne) {
  // `$` is a secret, in whatever spelling.
  const std::vector<std::string> right = {
      Job("env { A = $ }\nrun = [\"x\"]"),
      Job("secret_files { \"f\" = $ }\nrun = [\"x\"]"),
      "template t { env { A = $ } }\njob victim uses t { run = [\"x\"] }\n",
      "defaults { env { A = $ } }\njob victim { run = [\"x\"] }\n",
      "finally victim { env { A = $ }\nrun = [\"x\"] }\n",
      "hook on finish { secret_files { \"f\" = $ }\nrun = [\"x\"] }\n",
      "job victim { run = [\"x\"] }\nprofile p default {\njob victim { env { A = $ } } }\n",
  };
  const std::vector<std::string> wrong = {
      "let x = $\n",
      "let x: Secret? = $\n",
      Job("run = [\"x\", $]"),
      Job("run = [\"x\", \"--pw=~{$}\"]"),
      Job("run = [\"x\", ...[$]]"),
      Job("script = <<~SH\n  echo ~{$}\n  SH"),
      Job("script = <<~PY\n  print(~{$})\n  PY"),
      Job("run = [\"x\"]\nprologue = <<~SH\n  echo ~{$}\n  SH"),
      Job("run = [\"x\"]\nepilogue = <<~SH\n  echo ~{$}\n  SH"),
      Job("when = $ == \"x\"\nrun = [\"x\"]"),
      Job("when = $ == $\nrun = [\"x\"]"),
      Job("for s in [$] key \"k\"\nrun = [\"x\"]"),
      Job("for s in [\"a\"] key $\nrun = [\"x\"]"),
      Job("matrix { a = [$] }\nrun = [\"x\"]"),
      Job("input { a: String = $ }\nrun = [\"x\"]"),
      Job("input { a: Secret = $ }\nrun = [\"x\"]"),
      Job("input { a: File = $ }\nrun = [\"x\"]"),
      Job("output { a: String = $ }\nrun = [\"x\"]"),
      Job("output { a: File = \"~{$}.txt\" }\nrun = [\"x\"]"),
      Job("output { a: List<File> = glob(\"~{$}*\") }\nrun = [\"x\"]"),
      Job("labels { a = $ }\nrun = [\"x\"]"),
      Job("image = $\nrun = [\"x\"]"),
      Job("env { A = if $ == \"x\" then \"a\" else \"b\" }\nrun = [\"x\"]"),
      Job("env { A = if true then $ else $ }\nrun = [\"x\"]"),
      Job("env { A = match $ { \"x\" => 1, _ => 2 } }\nrun = [\"x\"]"),
      Job("env { A = tell($) }\nrun = [\"x\"]"),
      Job("env { A = [$][0] }\nrun = [\"x\"]"),
      Job("env { A = join([for s in params.ls : $], \",\") }\nrun = [\"x\"]"),
      Job("env { A = params.os ?? $ }\nrun = [\"x\"]"),
      Job("secret_files { \"f\" = tell(\"~{$}\") }\nrun = [\"x\"]"),
      "check c { require $ == \"x\" else \"no\" }\n",
      "check c { require true else \"~{$}\" }\n",
      "job one { run = [\"x\"] }\nexport { a: String = $ }\n",
      "job one { run = [\"x\"] }\nexport { a: Secret = $ }\n",
      "job one { output { f: File = \"f\" }\nrun = [\"x\"] }\npublish \"p\" { \"~{$}\" = one.f }\n",
      "finally victim { run = [\"x\", $] }\n",
      "hook on finish { run = [\"x\", $] }\n",
      "template t { run = [\"x\", $] }\njob victim uses t { }\n",
      "struct Box { s: String }\nlet x = Box { s = $ }\n",
      "let x = [$]\n",
      "let x = { a = $ }\n",
      "let x = { [$] = 1 }\n",
      "let x = $ in [\"a\"]\n",
      "let x = $ < \"a\"\n",
      "let x = !$\n",
      "let x = params.m[$]\n",
      "fn f(a: Int) -> Secret = $\nlet x = f(1)\n",
  };
  for (const std::string secret : {"token", "\"x~{token}\"", "bearer(token)", "both(key, \"~{twice(token)}\")"}) {
    auto with = [&](std::string text) {
      for (size_t at = 0; (at = text.find('$', at)) != std::string::npos; at += secret.size()) text.replace(at, 1, secret);
      return text;
    };
    for (const std::string& text : right) {
      std::string rendered;
      EXPECT_EQ(Errors(with(text), &rendered), "") << rendered;
    }
    for (const std::string& text : wrong) {
      std::string rendered;
      EXPECT_NE((" " + Errors(with(text), &rendered)).find(" E402"), std::string::npos) << with(text) << "\n" << rendered;
    }
  }
}

/// A random expression and whether a secret reaches where it is not allowed. All are of a kind that `env` takes.
class Generator {
 public:
  explicit Generator(uint64_t seed) : engine_(seed) {}

  /// A secret, made only by what may make one.
  std::string Secret(int depth) {
    switch (depth <= 0 ? Below(2) : Below(6)) {
      case 0: return "token";
      case 1: return "key";
      case 2: return "\"" + Letters() + "~{" + Secret(depth - 1) + "}" + Letters() + "\"";
      case 3: return (Below(2) ? "bearer(" : "twice(") + Secret(depth - 1) + ")";
      case 4: return "both(" + Secret(depth - 1) + ", " + Secret(depth - 1) + ")";
      default: return "\"~{" + Secret(depth - 1) + "} ~{" + Plain(depth - 1) + "}\"";
    }
  }

  /// A String without any secret.
  std::string Plain(int depth) { return Text(depth, [&](int) { return std::string("params.s"); }); }

  /// A String into which a secret goes, somewhere, by an operation that must not have it.
  std::string Tainted(int depth) {
    bool placed = false;
    return Text(std::max(depth, 1), [&](int left) {
      if (placed) return Plain(left);
      placed = true;
      return Leak(left);
    });
  }

 private:
  uint64_t Below(uint64_t n) { return engine_() % n; }
  std::string Letters() { return std::string(Below(3), 'q'); }

  /// Text built of operations on texts; `leaf` makes those at the bottom, of which there is at least one.
  std::string Text(int depth, const std::function<std::string(int)>& leaf) {
    if (depth <= 0) return leaf(depth);
    switch (Below(9)) {
      case 0: return "upper(" + Text(depth - 1, leaf) + ")";
      case 1: return "replace(" + Text(depth - 1, leaf) + ", \"a\", \"b\")";
      case 2: return "\"" + Letters() + "~{" + Text(depth - 1, leaf) + "}\"";
      case 3: return "join([" + Text(depth - 1, leaf) + ", params.s], \"-\")";
      case 4: return "(if params.b then " + Text(depth - 1, leaf) + " else params.s)";
      case 5: return "tell(" + Text(depth - 1, leaf) + ")";
      case 6: return "[" + Text(depth - 1, leaf) + "][0]";
      case 7: return "join([for one" + std::to_string(depth) + " in params.ls : tell(" + Text(depth - 1, leaf) + ")], one_more(1))";
      default: return leaf(depth - 1);
    }
  }

  std::string Leak(int depth) {
    std::string s = Secret(depth);
    switch (Below(8)) {
      case 0: return "sha256(" + s + ")";
      case 1: return "to_string(" + s + ")";
      case 2: return "(if " + s + " == \"x\" then \"a\" else \"b\")";
      case 3: return "tell(" + s + ")";
      case 4: return "[" + s + "][0]";
      case 5: return "format(\"{}\", " + s + ")";
      case 6: return "to_string(length(" + s + "))";
      default: return "(params.os ?? " + s + ")";
    }
  }

  std::mt19937_64 engine_;
};

TEST(SecretFlow, RandomExpressionsAreSecretsOrRefused) {
  const char* given = std::getenv("JOBC_SEED");
  const uint64_t first = given ? std::strtoull(given, nullptr, 10) : 1;
  const uint64_t count = given ? 1 : 400;
  const std::string helper = "fn one_more(n: Int) -> String = \"~{n + 1}\"\n";
  for (uint64_t seed = first; seed < first + count; ++seed) {
    Generator g(seed);
    const int depth = static_cast<int>(seed % 6);
    const std::string secret = g.Secret(depth), plain = g.Plain(depth), tainted = g.Tainted(depth);
    std::string rendered;
    // A secret is taken by its carriers and by nothing else, a text is taken everywhere, a text with a secret nowhere.
    ASSERT_EQ(Errors(helper + Job("env { A = " + secret + ", B = " + plain + " }\nsecret_files { \"f\" = " + secret + " }\nrun = [\"x\", " + plain + "]"), &rendered), "")
        << rendered << "JOBC_SEED=" << seed;
    for (const std::string& body : {"env { A = " + tainted + " }\nrun = [\"x\"]", "run = [\"x\", " + secret + "]", "run = [\"x\", " + tainted + "]",
                                    "secret_files { \"f\" = " + tainted + " }\nrun = [\"x\"]"}) {
      ASSERT_TRUE(Leaks(helper + Job(body))) << body << "\nJOBC_SEED=" << seed;
    }
  }
}

TEST(SecretFlow, MessagesDoNotDependOnValues) {
  // The checker never reads a secret, so no message can hold one; this guards it: the variable is set.
  setenv("TOKEN", "correct-horse-battery-staple", 1);
  std::string rendered;
  EXPECT_NE(Errors("let x = upper(token)\n", &rendered), "");
  EXPECT_EQ(rendered.find("correct-horse"), std::string::npos);
}

}  // namespace
}  // namespace jobc
