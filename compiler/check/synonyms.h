// What people write who come from other job systems and programming languages, and what it is called here. Used by the
// checker where a name is unknown and no name that exists is spelt like it. Data only; the tests compile every line.
#pragma once

#include <span>
#include <string_view>

namespace jobc {

struct Synonym {
  std::string_view word;  ///< lower case, without `_` and `-`
  std::string_view here;  ///< an attribute or block of a job as it would be written; a function: its name or an expression
};

std::span<const Synonym> AttributeSynonyms();
std::span<const Synonym> FunctionSynonyms();

/// What `word` is called here, whatever its case and underscores; empty: nothing is known about it.
std::string_view FindSynonym(std::span<const Synonym> synonyms, std::string_view word);

/// Whether an unknown attribute of a job means what it should run.
bool MeansCommand(std::string_view word);

}  // namespace jobc
