// What is said about guards and `after` must hold in every run: random guards along a chain of jobs against all values of the
// outputs they look at (E302), and random orders of jobs against all ways in which they can end (W303).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "compiler/check/check.h"
#include "compiler/diagnostics/render.h"

namespace jobc {
namespace {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  size_t Below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(engine_); }

 private:
  std::mt19937_64 engine_;
};

struct Found {
  std::set<std::string> dead;        ///< addresses of jobs with E302
  std::vector<Span> redundant;       ///< of W303
  bool other_errors = false;
  std::string rendered;
};

Found CheckText(const std::string& text) {
  SourceManager sources;
  Diagnostics diags;
  const SourceId root = sources.Add("guards.job", text, "");
  Check(root, sources, diags);
  Found found;
  for (const Diagnostic& d : diags.all()) {
    if (d.kind->code == "E302") {
      // "`j1` can never run: …"
      const size_t begin = d.message.find('`') + 1;
      found.dead.insert(d.message.substr(begin, d.message.find('`', begin) - begin));
    } else if (d.kind->code == "W303") {
      found.redundant.push_back(d.primary.span);
    } else if (d.kind->severity == Severity::Error) {
      found.other_errors = true;
    }
  }
  found.rendered = RenderText(diags, sources, {}) + text;
  return found;
}

/// What the guards look at: two numbers, a truth, and a case.
struct World {
  int x = 0, y = 0;
  bool b = false;
  int m = 0;
};

struct Guard {
  std::string text;
  std::function<bool(const World&)> holds;
};

Guard Comparison(Random& random) {
  static const char* kOps[] = {"==", "!=", "<", "<=", ">", ">="};
  const size_t op = random.Below(6);
  const int n = static_cast<int>(random.Below(5)) - 1;
  const bool first = random.Below(2) == 0, swapped = random.Below(4) == 0;
  const auto compare = [op](int l, int r) {
    switch (op) {
      case 0: return l == r;
      case 1: return l != r;
      case 2: return l < r;
      case 3: return l <= r;
      case 4: return l > r;
      default: return l >= r;
    }
  };
  const std::string name = first ? "src.x" : "src.y";
  Guard guard;
  guard.text = swapped ? fmt::format("{} {} {}", n, kOps[op], name) : fmt::format("{} {} {}", name, kOps[op], n);
  guard.holds = [=](const World& w) {
    const int value = first ? w.x : w.y;
    return swapped ? compare(n, value) : compare(value, n);
  };
  return guard;
}

Guard Any(Random& random, int depth) {
  const size_t which = random.Below(depth == 0 ? 5 : 9);
  switch (which) {
    case 0: case 1: return Comparison(random);
    case 2: return {"src.b", [](const World& w) { return w.b; }};
    case 3: {
      const int m = static_cast<int>(random.Below(3));
      const bool same = random.Below(2) == 0;
      return {fmt::format("src.m {} Mode.{}", same ? "==" : "!=", std::string(1, static_cast<char>('a' + m))), [=](const World& w) { return (w.m == m) == same; }};
    }
    case 4: {
      const int low = static_cast<int>(random.Below(4)) - 1, high = low + static_cast<int>(random.Below(3));
      return {fmt::format("src.x in {}..{}", low, high), [=](const World& w) { return w.x >= low && w.x <= high; }};
    }
    case 5: {
      const Guard inner = Any(random, depth - 1);
      return {"!(" + inner.text + ")", [=](const World& w) { return !inner.holds(w); }};
    }
    case 6: {
      const Guard c = Any(random, depth - 1), t = Any(random, depth - 1), e = Any(random, depth - 1);
      return {"(if " + c.text + " then " + t.text + " else " + e.text + ")", [=](const World& w) { return c.holds(w) ? t.holds(w) : e.holds(w); }};
    }
    default: {
      const Guard l = Any(random, depth - 1), r = Any(random, depth - 1);
      const bool both = which == 7;
      return {"(" + l.text + (both ? " && " : " || ") + r.text + ")", [=](const World& w) { return both ? l.holds(w) && r.holds(w) : l.holds(w) || r.holds(w); }};
    }
  }
}

bool Possible(const std::vector<Guard>& guards, size_t upto) {
  World w;
  for (w.x = -4; w.x <= 6; ++w.x) {
    for (w.y = -4; w.y <= 6; ++w.y) {
      for (const bool b : {false, true}) {
        w.b = b;
        for (w.m = 0; w.m < 3; ++w.m) {
          bool all = true;
          for (size_t i = 0; i <= upto && all; ++i) all = guards[i].holds(w);
          if (all) return true;
        }
      }
    }
  }
  return false;
}

uint64_t FirstSeed() {
  const char* seed = std::getenv("JOBC_SEED");
  return seed != nullptr ? std::strtoull(seed, nullptr, 10) : 1;
}

TEST(Guards, AreCalledImpossibleOnlyWhereNoValuesSatisfyThem) {
  size_t told = 0, impossible = 0;
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + 1500; ++seed) {
    Random random(seed);
    std::string text = "edition = 1\nenum Mode { a, b, c }\njob src { run = [\"x\"], output { x: Int, y: Int, b: Bool, m: Mode } }\n";
    std::vector<Guard> guards;
    const size_t jobs = 1 + random.Below(3);
    for (size_t i = 0; i < jobs; ++i) {
      guards.push_back(Any(random, 2));
      const std::string before = i == 0 ? "" : fmt::format("j{}.ok && ", i - 1);
      text += fmt::format("job j{} {{ when = {}{}, run = [\"x\"] }}\n", i, before, guards.back().text);
    }
    const Found found = CheckText(text);
    ASSERT_FALSE(found.other_errors) << found.rendered;
    for (size_t i = 0; i < jobs; ++i) {
      const bool dead = found.dead.count(fmt::format("j{}", i)) != 0, possible = Possible(guards, i);
      told += dead ? 1 : 0;
      impossible += possible ? 0 : 1;
      ASSERT_FALSE(dead && possible) << "JOBC_SEED=" << seed << "\n" << found.rendered;
    }
  }
  // Sound, and not silent: a job behind an impossible one need not be told again.
  EXPECT_GT(impossible, 100u);
  EXPECT_GT(told, impossible / 4);
}

TEST(After, IsCalledRedundantOnlyWhereTheJobWaitsAnyway) {
  size_t told = 0;
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + 800; ++seed) {
    Random random(seed);
    const size_t jobs = 3 + random.Below(4);
    std::string text = "edition = 1\n";
    std::vector<std::set<size_t>> inputs(jobs), after(jobs);
    std::vector<std::pair<uint32_t, std::pair<size_t, size_t>>> entries;  // offset in the text -> (job, upstream)
    for (size_t j = 0; j < jobs; ++j) {
      text += fmt::format("job j{} {{ run = [\"x\"], output {{ n: Int }}", j);
      for (size_t k = 0; k < j; ++k) {
        if (random.Below(4) == 0) inputs[j].insert(k);
        if (random.Below(3) == 0) after[j].insert(k);
      }
      if (!inputs[j].empty()) {
        text += ", input {";
        for (size_t k : inputs[j]) text += fmt::format(" i{0}: Int = j{0}.n", k);
        text += " }";
      }
      if (!after[j].empty()) {
        text += ", after = [";
        for (size_t k : after[j]) {
          if (k != *after[j].begin()) text += ", ";
          entries.push_back({static_cast<uint32_t>(text.size()), {j, k}});
          text += fmt::format("j{}", k);
        }
        text += "]";
      }
      text += " }\n";
    }
    const Found found = CheckText(text);
    ASSERT_FALSE(found.other_errors) << found.rendered;
    std::set<uint32_t> redundant;
    for (Span span : found.redundant) redundant.insert(span.begin);
    told += redundant.size();
    for (const auto& [offset, entry] : entries) {
      // Without this entry: is there another way from the job to its upstream?
      const auto [job, upstream] = entry;
      std::set<size_t> reached;
      std::function<void(size_t)> visit = [&, job = job, upstream = upstream](size_t j) {
        for (const auto* edges : {&inputs[j], &after[j]}) {
          for (size_t k : *edges) {
            if (edges == &after[j] && j == job && k == upstream) continue;
            if (reached.insert(k).second) visit(k);
          }
        }
      };
      visit(job);
      EXPECT_EQ(redundant.count(offset) != 0, reached.count(upstream) != 0) << "JOBC_SEED=" << seed << " j" << job << " after j" << upstream << "\n" << found.rendered;
    }
  }
  EXPECT_GT(told, 500u);
}

}  // namespace
}  // namespace jobc
