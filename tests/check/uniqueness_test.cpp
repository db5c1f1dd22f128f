// A proof that keys or names differ must never be wrong: random templates over the fields, indices and axes of random
// scatters, and, wherever the checker says nothing, values made to collide, which the plan then compares one by one.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "compiler/check/check.h"
#include "compiler/diagnostics/render.h"
#include "compiler/lower/lower.h"

namespace jobc {
namespace {

using Words = std::vector<std::string>;

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  size_t Below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(engine_); }
  bool Coin() { return Below(2) == 0; }
  const std::string& Of(const Words& words) { return words[Below(words.size())]; }

 private:
  std::mt19937_64 engine_;
};

/// Pieces that run into each other, that hold each other's separators, and that are alike after a function.
const Words kLiterals = {"-", ".", "x", "_", "1", "--", "a", "/", "0"};
const Words kFields = {"s.a", "s.b", "s.c", "s.n", "s.m", "pad(s.n, 2)", "to_string(s.n)", "joined(s.a, s.n)", "joined(s.b, s.n)", "lower(s.c)", "stem(s.c)", "s.n + 1", "s.o ?? \"a\""};
const Words kAxes = {"[\"u\", \"v\"]", "[1, 11]", "[\"a-\", \"-a\"]", "[true, false]", "[Mode.x, Mode.y]", "[\"only\"]", "[\"a/b\", \"b\"]"};
const Words kUnique = {"[for s in xs : s.a]", "[for s in xs : s.b]", "[for s in xs : s.c]", "[for s in xs : s.n]", "[for s in xs : \"~{s.a}~{s.n}\"]", "[for s in xs : joined(s.b, s.n)]", "xs"};

std::string Template(Random& random, bool axes) {
  std::string text;
  const size_t parts = 1 + random.Below(4);
  for (size_t i = 0; i < parts; ++i) {
    if (i > 0 && random.Below(4) != 0) text += random.Of(kLiterals);
    const size_t which = random.Below(axes ? 3 : 2);
    text += which == 0 && i > 0 ? random.Of(kLiterals) : which == 2 ? "~{matrix.p" + std::to_string(random.Below(2)) + "}" : "~{" + random.Of(kFields) + "}";
  }
  return "\"" + text + "\"";
}

std::string Program(Random& random) {
  std::string text =
      "edition = 1\nenum Mode { x, y }\n"
      "struct S { a: String(re\"[a-z]+\"), b: String(re\"[a-c-]+\"), c: String(re\"[A-Za-z/.-]+\"), n: Int, m: Mode, o: String? }\n"
      "fn joined(x: String, n: Int) -> String = \"~{x}-~{n}\"\n"
      "params {\n  xs: List<S>\n";
  const size_t requires_ = 1 + random.Below(2);
  for (size_t i = 0; i < requires_; ++i) text += "  require unique(" + random.Of(kUnique) + ")\n";
  text += "}\njob j {\n  for s in params.xs";
  if (random.Below(5) != 0) text += " key " + (random.Below(3) == 0 ? random.Of({"s.a", "s.b", "s.c", "s.n"}) : Template(random, false));
  text += "\n";
  const bool axes = random.Coin();
  if (axes) text += "  matrix { p0 = " + random.Of(kAxes) + ", p1 = " + random.Of(kAxes) + " }\n";
  text += "  run = [\"x\"]\n  output { f: File = " + Template(random, axes) + " }\n}\npublish \"d\" { \"all/\" = j[*].f }\n";
  return text;
}

std::string Values(Random& random) {
  std::string json = "[";
  const size_t count = 2 + random.Below(3);
  for (size_t i = 0; i < count; ++i) {
    json += std::string(i > 0 ? "," : "") + "{\"a\":\"" + random.Of({"a", "aa", "ab", "b", "x"}) + "\",\"b\":\"" + random.Of({"a", "-", "a-", "-a", "b-b", "a--"}) + "\",\"c\":\"" +
            random.Of({"a", "A", "a-", "-a", "a/b", "b", "a.b", "x/a"}) + "\",\"n\":" + random.Of({"-1", "0", "1", "10", "11"}) + ",\"m\":\"" + random.Of({"x", "y"}) + "\",\"o\":" +
            random.Of({"null", "\"a\"", "\"b\""}) + "}";
  }
  return json + "]";
}

struct Kinds {
  std::set<std::string> names;
  std::string rendered;
  bool Has(const char* name) const { return names.count(name) != 0; }
};

Kinds Look(const std::string& text, const std::string* values) {
  SourceManager sources;
  Diagnostics diags;
  const SourceId root = sources.Add("unique.job", text, "");
  Model model = Check(root, sources, diags);
  if (values != nullptr && !diags.has_errors()) {
    LowerOptions options;
    options.params.push_back({false, "xs", *values});
    Lower(std::move(model), options, sources, diags);
  }
  diags.Sort();
  Kinds kinds;
  for (const Diagnostic& d : diags.all()) kinds.names.insert(std::string(d.kind->name));
  kinds.rendered = RenderText(diags, sources, {}) + text + (values != nullptr ? *values : "");
  return kinds;
}

TEST(Uniqueness, IsNeverProvenOfWhatCollides) {
  const char* rounds = std::getenv("JOBC_UNIQUE_ROUNDS");
  const char* seed = std::getenv("JOBC_SEED");
  const uint64_t first = seed != nullptr ? std::strtoull(seed, nullptr, 10) : 1;
  const uint64_t count = rounds != nullptr ? std::strtoull(rounds, nullptr, 10) : 700;
  size_t keys_proven = 0, names_proven = 0, keys_collided = 0, names_collided = 0, planned = 0;
  for (uint64_t i = first; i < first + count; ++i) {
    Random random(i);
    const std::string text = Program(random);
    const Kinds checked = Look(text, nullptr);
    ASSERT_FALSE(checked.Has("SyntaxUnexpected") || checked.Has("TypeMismatch") || checked.Has("UnknownName")) << checked.rendered;
    const bool keys = !checked.Has("KeysNotProven"), names = !checked.Has("NamesNotProven");
    keys_proven += keys ? 1 : 0;
    names_proven += names ? 1 : 0;
    for (int k = 0; k < (keys || names ? 6 : 1); ++k) {
      const std::string values = Values(random);
      const Kinds found = Look(text, &values);
      if (found.Has("RequireFailed")) continue;
      ++planned;
      const bool same_keys = found.Has("KeysCollide"), same_names = found.Has("PublishedTwice");
      keys_collided += same_keys ? 1 : 0;
      names_collided += same_names ? 1 : 0;
      ASSERT_FALSE(keys && same_keys) << "JOBC_SEED=" << i << "\n" << found.rendered;
      ASSERT_FALSE(names && same_names) << "JOBC_SEED=" << i << "\n" << found.rendered;
    }
  }
  // The test must have seen both.
  EXPECT_GT(keys_proven, count / 10);
  EXPECT_GT(names_proven, count / 50);
  EXPECT_GT(keys_collided, 0u);
  EXPECT_GT(names_collided, 0u);
  EXPECT_GT(planned, count / 2);
}

}  // namespace
}  // namespace jobc
